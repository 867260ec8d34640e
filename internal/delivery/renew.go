package delivery

import "crypto/sha256"

// Run identifies one run of a replay. It is random.
type Run [16]byte

// Renew returns the new ID under which a run sends the delivery of id again: the first 16 bytes of
// the SHA-256 of id and run. It is stable within a run, so that a repeated step creates no second
// row, and different in every other run.
func Renew(id ID, run Run) ID {
	sum := sha256.Sum256(append(append(make([]byte, 0, len(id)+len(run)), id[:]...), run[:]...))
	return ID(sum[:16])
}
