package sealer

import (
	"time"
)

// heartbeatDue reports whether the latest checkpoint is so old that the next is due
// without an event to seal, so that silence means that no instance seals. A signer
// whose clock was ahead leaves a time that has not come yet: that counts as old too.
// Instances whose clocks disagree do not sign in turns: each waits for as long after
// it has seen another checkpoint.
func (s *Sealer) heartbeatDue(last latest) bool {
	now := s.now()
	if last.Size == 0 {
		return false
	}
	if note := string(last.note); s.heartbeat.note != note {
		seen := now
		if s.heartbeat.note == "" { // it may have been there for long
			seen = time.Time{}
		}
		s.heartbeat = heartbeatState{note, seen}
	}
	age := now.Sub(last.Time).Abs()
	return age >= s.config.HeartbeatInterval && (s.heartbeat.at.IsZero() || now.Sub(s.heartbeat.at) >= s.config.HeartbeatInterval)
}
