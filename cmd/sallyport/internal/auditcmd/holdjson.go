package auditcmd

import (
	"time"

	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
)

// holdJSON is one hold of `audit hold list`.
type holdJSON struct {
	Number     int64     `json:"number"`
	FirstMonth string    `json:"first_month"` // 2026-01
	LastMonth  string    `json:"last_month"`
	Reason     string    `json:"reason"`
	SetAt      time.Time `json:"set_at"`
	SetBy      string    `json:"set_by"`
	Lifted     *liftJSON `json:"lifted,omitempty"` // absent: the hold is in force
}

type liftJSON struct {
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
}

func newHoldJSON(h auditsealer.Hold) holdJSON {
	out := holdJSON{Number: h.Number, FirstMonth: h.FirstDay.Format("2006-01"), LastMonth: h.LastDay.Format("2006-01"),
		Reason: h.Reason, SetAt: h.SetAt.UTC(), SetBy: h.SetBy}
	if !h.LiftedAt.IsZero() {
		out.Lifted = &liftJSON{h.LiftedAt.UTC(), h.LiftedBy, h.LiftedBecause}
	}
	return out
}
