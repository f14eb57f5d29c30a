package audit

import (
	"strings"
	"testing"
	"time"
)

func TestCadence(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)
	signed := func(bound time.Duration, at ...time.Duration) Cadence {
		c := NewCadenceTracker(bound)
		for i, d := range at {
			c.Checkpoint(int64(i+1), begin.Add(d))
		}
		return c.Report()
	}
	for name, c := range map[string]struct {
		bound    time.Duration
		at       []time.Duration
		silences int64
		backward int64
	}{
		"none":                {0, nil, 0, 0},
		"one":                 {0, []time.Duration{0}, 0, 0},
		"heartbeats":          {0, []time.Duration{0, time.Hour, 2 * time.Hour, 3*time.Hour + time.Second}, 0, 0},
		"one is missing":      {0, []time.Duration{0, 2 * time.Hour}, 0, 0}, // an hour's last and the next hour's first
		"at the bound":        {0, []time.Duration{0, DefaultMaxSilence}, 0, 0},
		"a second more":       {0, []time.Duration{0, DefaultMaxSilence + time.Second}, 1, 0},
		"a shorter bound":     {time.Minute, []time.Duration{0, time.Hour, time.Hour + time.Minute, 2 * time.Hour}, 2, 0},
		"the clock goes back": {0, []time.Duration{0, 5 * time.Minute, time.Minute, 2 * time.Hour}, 0, 1},
		"and far":             {0, []time.Duration{0, 48 * time.Hour, time.Hour, 2 * time.Hour}, 1, 1},
	} {
		got := signed(c.bound, c.at...)
		if got.Count != c.silences || got.Backward != c.backward || int64(len(got.Silences)) != c.silences {
			t.Errorf("%s: %+v", name, got)
		}
	}
	c := signed(0, 0, time.Hour, 5*time.Hour)
	if text := c.Silences[0].String(); !strings.Contains(text, "between 2026-11-30T09:00:00Z and 2026-11-30T13:00:00Z (4 h), after the checkpoint of size 2") {
		t.Error(text)
	}
	if silent := c.SilentSince(begin.Add(8 * time.Hour)); silent != 3*time.Hour {
		t.Errorf("silent for %s", silent)
	}
	if silent := c.SilentSince(begin.Add(6 * time.Hour)); silent != 0 {
		t.Errorf("silent for %s", silent)
	}
	if silent := (Cadence{Bound: time.Hour}).SilentSince(begin); silent != 0 {
		t.Errorf("a log without a checkpoint is silent for %s", silent)
	}
}

// TestSilencesAreBounded: a log of many silences takes no more memory than a bound.
func TestSilencesAreBounded(t *testing.T) {
	t.Parallel()
	c := NewCadenceTracker(time.Second)
	for n := range 2 * maxSilences {
		c.Checkpoint(int64(n+1), time.Unix(int64(n)*10, 0))
	}
	if got := c.Report(); got.Count != 2*maxSilences-1 || len(got.Silences) != maxSilences {
		t.Errorf("%d silences, %d of them listed", got.Count, len(got.Silences))
	}
}
