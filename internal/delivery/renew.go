package delivery

import "crypto/sha256"

// Run tells one run of a replay from all others. It is random.
type Run [16]byte

// Renew returns the ID under which a run sends the delivery of id anew: the first 16 bytes of SHA-256 over id and run, both 16 bytes.
// Within a run the same id gives the same ID, so that what is tried twice makes one row; in another run it gives another.
func Renew(id ID, run Run) ID {
	sum := sha256.Sum256(append(append(make([]byte, 0, len(id)+len(run)), id[:]...), run[:]...))
	return ID(sum[:16])
}
