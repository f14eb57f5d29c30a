package audit

// An Entry is what a source has of one event.
type Entry struct {
	// Index is the leaf's place in the tree; for an event that is not sealed it
	// means nothing.
	Index int64
	// Writer and Sequence are those of the leaf, or of the row that is not
	// sealed. An empty writer: the source knows only the record.
	Writer   string
	Sequence int64
	// Hash is that of the leaf. Zero: the source keeps the record in its place.
	Hash Hash
	// Record is the event. Nil: it is not there.
	Record []byte
	// Columns has the columns in the form of the record: a JSON object with
	// the record's fields in its order, without version, attributes and input.
	// Nil: the source has no columns.
	Columns []byte
	// Copies counts further rows under the same number.
	Copies int

	prepared   bool // of and difference are those of the record and the columns
	of         Hash
	difference string
}

// Prepare does the part of a verification that depends on this entry alone, so
// that it can be done beside others. It need not be called, and nothing of the
// entry may be changed after it.
func (e *Entry) Prepare() {
	if e.prepared || e.Record == nil {
		return
	}
	e.prepared = true
	e.of = Leaf(e.Record)
	if e.Columns != nil {
		e.difference = compareColumns(e.Record, e.Columns)
	}
}

// leaf is the hash of the record.
func (e *Entry) leaf() Hash {
	if e.prepared {
		return e.of
	}
	return Leaf(e.Record)
}
