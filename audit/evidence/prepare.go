package evidence

import (
	"bytes"

	"github.com/sallyport/sallyport/audit"
)

// A prepared decision is what can be made of it beside others.
type prepared struct {
	pair    Pair
	line    []byte   // of population.jsonl
	row     []byte   // of population.csv
	decided *decided // nil: the record cannot be read
	leaf    audit.Hash
	err     error
}

// prepare makes of a decision what goes into the files.
func prepare(p Pair) prepared {
	one := prepared{pair: p, leaf: audit.Leaf(p.Record)}
	d, err := decide(&p)
	if err != nil {
		return one
	}
	one.decided = d
	var row bytes.Buffer
	one.err = writePopulationRow(audit.NewCSV(&row), d)
	one.row = row.Bytes()
	return one
}

func decide(p *Pair) (*decided, error) {
	d := &decided{leaf: p.Leaf, endLeaf: p.EndLeaf}
	var err error
	if d.recordFields, err = read(p.Record); err != nil {
		return nil, err
	}
	if p.EndLeaf >= 0 {
		if d.end, err = read(p.EndRecord); err != nil {
			return nil, err
		}
	}
	return d, nil
}
