package pack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// WriteJSON writes a value for people and programs.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// ReadJSON reads one JSON value of known members, of which none is there twice, in
// whatever spelling: two readers take different ones of them for the value. What
// follows the value is an error too.
func ReadJSON(text []byte, v any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its end")
	}
	return checkMembers(json.NewDecoder(bytes.NewReader(text)))
}

// freeMembers is the one object of a pack whose members are not ours: kinds of events.
const freeMembers = "events_of_the_period"

// openValue is an object or array that is not closed yet.
type openValue struct {
	members map[string]bool // nil: an array
	free    bool
}

// checkMembers returns an error where an object has a member twice, or one that
// encoding/json takes for one of ours although it is spelled otherwise.
func checkMembers(decoder *json.Decoder) error {
	var open []openValue
	member, isName := "", false
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '{':
				open, isName = append(open, openValue{map[string]bool{}, member == freeMembers}), true
				continue
			case '[':
				open, isName, member = append(open, openValue{}), false, ""
				continue
			}
			open = open[:len(open)-1]
		case string:
			if !isName {
				break
			}
			object := open[len(open)-1]
			switch {
			case object.members[t]:
				return fmt.Errorf("the member %.100q is there twice", t)
			case !object.free && t != strings.ToLower(t):
				return fmt.Errorf("the member %.100q is not known", t)
			}
			object.members[t], member, isName = true, t, false
			continue
		}
		isName = len(open) > 0 && open[len(open)-1].members != nil
	}
}
