package audit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// errTitle is returned for a title that could make a statement look like a
// checkpoint, of which the second line is a number.
var errTitle = errors.New("a statement's title is a line of text that is not a number")

func checkTitle(title string) error {
	if _, err := strconv.ParseInt(title, 10, 64); err == nil || title == "" || strings.ContainsAny(title, "\n\r") {
		return errTitle
	}
	return nil
}

// SignStatement signs a text that is not a checkpoint: as a C2SP signed note of the
// signer's origin, the title and the text. The title names the sort of text it
// is, so that none can pass for one of another sort. The text has no control
// characters but line ends and ends with one. The same call gives the same bytes.
func (s *Signer) SignStatement(title, text string) ([]byte, error) {
	if err := checkTitle(title); err != nil {
		return nil, err
	}
	signed, err := note.Sign(&note.Note{Text: s.key.Origin() + "\n" + title + "\n" + text}, s.signer)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", title, err)
	}
	return signed, nil
}

// OpenStatement returns the text of a statement with this title, and which of
// the keys has signed it.
func OpenStatement(signed []byte, title string, keys ...Key) (text string, by Key, err error) {
	if err := checkTitle(title); err != nil {
		return "", "", err
	}
	for _, k := range keys {
		v := k.verifier()
		if v == nil {
			continue
		}
		n, err := note.Open(signed, note.VerifierList(v))
		if err != nil || len(n.Sigs) == 0 {
			continue
		}
		if text, ok := strings.CutPrefix(n.Text, k.Origin()+"\n"+title+"\n"); ok {
			return text, k, nil
		}
	}
	return "", "", fmt.Errorf("the %s is signed by none of the keys %q", title, keys)
}
