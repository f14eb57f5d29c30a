package policy

import (
	"bytes"
	"encoding/json"
)

// Fault is what a source could not accept in the folder of a repository.
type Fault struct {
	Path    string `json:"path"`    // of the file or folder at fault
	Message string `json:"message"` // what is wrong, and what to do
}

// A snapshot names the faults of a folder in a file of its own, so that they are part of
// its digest and of what the log keeps.
const faultFile = "source-fault.rego"

// faultMark begins such a file. No Rego file begins with a zero byte.
var faultMark = []byte("\x00sallyport source fault\n")

// Bounds of the faults of one folder.
const (
	maxFaults       = 20
	maxFaultMessage = 1 << 10
)

// FaultFile returns the file that stands in a snapshot for the faults of a folder of a
// repository, repositories/<workspace>/<repository>.
func FaultFile(folder string, faults []Fault) File {
	kept := make([]Fault, 0, maxFaults)
	for _, f := range faults[:min(len(faults), maxFaults)] {
		if len(f.Message) > maxFaultMessage {
			f.Message = f.Message[:maxFaultMessage]
		}
		kept = append(kept, f)
	}
	text, err := json.Marshal(kept) // it replaces bytes that are not UTF-8
	if err != nil {
		text = []byte("[]")
	}
	return File{Path: folder + "/" + faultFile, Content: append(bytes.Clone(faultMark), text...)}
}

// Faults returns the faults that a file stands for; ok is false for every other file.
// There is at least one: a file that begins like one of a source, and is none, is itself
// a fault.
func (f File) Faults() (faults []Fault, ok bool) {
	text, ok := bytes.CutPrefix(f.Content, faultMark)
	if !ok {
		return nil, false
	}
	if err := json.Unmarshal(text, &faults); err != nil || len(faults) == 0 || len(faults) > maxFaults {
		faults = []Fault{{Path: f.Path, Message: "the file is not text"}}
	}
	return faults, true
}
