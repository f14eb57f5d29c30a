package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestFailuresAreLoggedOncePerMinute: an outage that fails every request writes one line
// at its beginning and one line per minute, whose counts add up.
func TestFailuresAreLoggedOncePerMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewJSONHandler(&out, nil))
		var f failureLog
		const failed = 3*60*100 + 50
		for range failed {
			f.failed(t.Context(), log, "refusal not recorded", errors.New("the database is unavailable"), slog.String("decision_id", "1"))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(3 * failureInterval) // the last count, and the end
		f.failed(t.Context(), log, "refusal not recorded", errors.New("another outage"))
		time.Sleep(2 * failureInterval)

		type line struct {
			Message  string `json:"msg"`
			Decision string `json:"decision_id"`
			Count    int    `json:"count"`
			Error    string `json:"error"`
		}
		var lines []line
		for d := json.NewDecoder(&out); d.More(); {
			var l line
			if err := d.Decode(&l); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, l)
		}
		if len(lines) != 6 {
			t.Fatalf("%d lines, want the first failure, 4 counts, and the second outage: %v", len(lines), lines)
		}
		total := 0
		for i, l := range lines {
			if l.Message != "refusal not recorded" || l.Error == "" {
				t.Errorf("line %d: %+v", i, l)
			}
			if l.Count == 0 {
				total++
			}
			total += l.Count
		}
		if total != failed+1 {
			t.Errorf("the lines report %d failures, want %d", total, failed+1)
		}
		if lines[0].Decision != "1" || lines[5].Error != "another outage" {
			t.Errorf("the first lines of the outages: %+v, %+v", lines[0], lines[5])
		}
	})
}
