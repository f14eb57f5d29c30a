package report

import (
	"bytes"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

// A prepared decision is what can be made of it beside others.
type Prepared struct {
	Pair    pack.Pair
	Line    []byte    // of population.jsonl
	Row     []byte    // of population.csv
	Decided *Decision // nil: the record cannot be read
	leaf    audit.Hash
	Err     error
}

// Prepare makes of a decision what goes into the files.
func Prepare(p pack.Pair) Prepared {
	one := Prepared{Pair: p, leaf: audit.Leaf(p.Record)}
	d, err := decide(&p)
	if err != nil {
		return one
	}
	one.Decided = d
	var row bytes.Buffer
	one.Err = writePopulationRow(audit.NewCSV(&row), d)
	one.Row = row.Bytes()
	return one
}

func decide(p *pack.Pair) (*Decision, error) {
	d := &Decision{leaf: p.Leaf, endLeaf: p.EndLeaf}
	var err error
	if d.Event, err = recorded.Read(p.Record); err != nil {
		return nil, err
	}
	if p.EndLeaf >= 0 {
		if d.End, err = recorded.Read(p.EndRecord); err != nil {
			return nil, err
		}
	}
	return d, nil
}
