package report

import (
	"bytes"
	"testing"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// FuzzFound: a line of findings is refused or has one meaning, and any row is read or
// refused.
func FuzzFound(f *testing.F) {
	const time = `"2026-10-02T00:00:00Z"`
	f.Add([]byte(`{"leaf":7,"row":["finding","run","repository",1,"deployment","pipeline","step",12,` + time + `,` + time + `,null,null,"successful","unobserved",""]}`))
	f.Add([]byte(`{"leaf":7,"row":["scan","a","b",` + time + `,null,1,1,true,true,"acme/a","complete",""]}`))
	f.Add([]byte(`{"leaf":7,"row":["scan", {}, 1]}`))
	f.Add([]byte(`{"leaf":-1,"row":[]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		leaf, row, err := pack.ReadFinding(line)
		if err != nil {
			return
		}
		if again := pack.AppendFinding(nil, leaf, row); !bytes.Equal(again, append(bytes.Clone(line), '\n')) {
			t.Errorf("%q became %q", line, again)
		}
		if got, err := readFound(row); err == nil && (got.scan == nil) == (got.run == nil) {
			t.Errorf("%q is neither or both", row)
		}
	})
}
