package cli

import (
	"testing"
	"time"

	"github.com/openedx-webhooks/webhook-dispatcher/internal/admin"
	"github.com/openedx-webhooks/webhook-dispatcher/internal/rule"
)

func TestWhyARuleIsNotAdopted(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, time.March, 1, 10, 0, 0, 0, time.UTC)
	key := rule.Key{Table: rule.Webhooks, ID: 7}
	for want, r := range map[string]admin.Refusal{
		"it is faulty: no URL":                {Key: key, Fault: "no URL"},
		"nothing could be sent to it: no key": {Key: key, Hold: "no key"},
		"it is paused since 2026-03-01T10:00:00.000Z: once its endpoint is well, run rules set 7 --resume first": {
			Key: key, PausedAt: at, Cure: "once its endpoint is well",
		},
		"it is paused since 2026-03-01T10:00:00.000Z: once its filter or transform is mended, run rules set 7 --resume first": {
			Key: key, PausedAt: at, Cure: "once its filter or transform is mended",
		},
	} {
		if got := whyRefused(&r); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestWhatIsSaidOfARotation(t *testing.T) {
	t.Parallel()
	hour := time.Date(2026, time.March, 1, 11, 0, 0, 0, time.UTC)
	late := time.Date(2026, time.March, 3, 10, 0, 0, 0, time.UTC)
	const also = "; besides with 1 secret of an earlier rotation until 2026-03-03T10:00:00.000Z at the latest"
	for want, v := range map[string]admin.RotatedView{
		"is signed with the new secret, and with the one before until 2026-03-01T11:00:00.000Z: give the receiver the new one by then": {
			Scheme: "standard", Until: hour,
		},
		"is signed with the new secret, and with the one before until 2026-03-01T11:00:00.000Z: give the receiver the new one by then" + also: {
			Scheme: "standard", Until: hour, Earlier: 1, EarlierUntil: late,
		},
		"is signed with the new secret alone from now on: the receiver must know it already": {Scheme: "standard"},
		"is signed with the new secret, and no longer with the one before: the receiver must know the new one already" + also: {
			Scheme: "standard", Earlier: 1, EarlierUntil: late,
		},
		"is signed with the new secret alone from now on: generic has room for one signature, so the receiver must know the new secret " +
			"already, and keep the old one until what is under way has arrived": {Scheme: "generic", Until: hour, Earlier: 1, EarlierUntil: late},
	} {
		if got := rotated(&v); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}
