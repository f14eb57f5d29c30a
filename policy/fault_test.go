package policy

import (
	"strings"
	"testing"
)

// TestFaultFile: the faults of a folder are read back as they were written, within
// bounds.
func TestFaultFile(t *testing.T) {
	many := make([]Fault, 2*maxFaults)
	for i := range many {
		many[i] = Fault{Path: "repositories/a/b/x", Message: strings.Repeat("x", 2*maxFaultMessage)}
	}
	f := FaultFile("repositories/a/b", many)
	got, ok := f.Faults()
	if !ok || len(got) != maxFaults || got[0].Path != many[0].Path || len(got[0].Message) != maxFaultMessage || f.Path != "repositories/a/b/source-fault.rego" || !Belongs(f.Path) {
		t.Errorf("%v %v", f.Path, got)
	}
	for _, content := range []string{"", "package a\n", "\x00sallyport"} {
		if got, ok := (File{Content: []byte(content)}).Faults(); ok {
			t.Errorf("%q: %v", content, got)
		}
	}
}

// FuzzFaults: whatever an author writes into such a file, there is at least one fault
// and a bounded number.
func FuzzFaults(f *testing.F) {
	f.Add([]byte(`[{"path":"a","message":"b"}]`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, ok := File{Path: "repositories/a/b/x.rego", Content: append([]byte(faultMark), text...)}.Faults()
		if !ok || len(got) == 0 || len(got) > maxFaults {
			t.Errorf("%q: %d faults, %v", text, len(got), ok)
		}
	})
}
