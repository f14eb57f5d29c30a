package audit_test

import (
	"fmt"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// A reader of a log passes its leaves to a Verification in their order, and gets a
// report of the damage. Here one record was changed after sealing, and there is no
// checkpoint.
func ExampleVerification() {
	v, err := audit.NewVerification(audit.Trust{})
	if err != nil {
		fmt.Println(err)
		return
	}
	kinds := []audit.Kind{audit.KindWriterStarted, audit.KindSelfTest, audit.KindSelfTest}
	for i := range int64(3) {
		e := audit.Event{
			Time: time.Date(2026, 11, 30, 12, 0, int(i), 0, time.UTC), Kind: kinds[i],
			Writer: "example", WriterSequence: i + 1,
		}
		e.Normalise()
		record := e.AppendRecord(nil)
		if i == 1 {
			record = append(record[:len(record)-1], `,"message":"added later"}`...)
		}
		v.Sealed(&audit.Entry{Index: i, Writer: e.Writer, Sequence: e.WriterSequence, Hash: audit.Leaf(e.AppendRecord(nil)), Record: record})
	}
	report := v.Report()
	fmt.Println("sound:", report.Sound())
	for _, finding := range report.Findings {
		fmt.Printf("leaf %d: %s: %s\n", finding.First, finding.Damage, finding.Detail)
	}
	// Output:
	// sound: false
	// leaf 0: leaf_missing: no checkpoint covers these leaves
	// leaf 1: record_changed: the record is not the one that was sealed
}
