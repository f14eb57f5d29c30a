package check

import "fmt"

// mistake is the fault of a value, with a hint. The zero mistake is none.
type mistake struct {
	message, hint string
	warning       bool
}

func (m mistake) none() bool { return m.message == "" }

func never(s, why, write string) mistake {
	return mistake{message: fmt.Sprintf("%q never matches: %s", s, why), hint: write, warning: true}
}
