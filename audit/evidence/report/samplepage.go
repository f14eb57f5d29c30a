package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// shownRecord is a record as the page shows it.
type shownRecord struct {
	pack.Proven
	Title  string
	Fields [][2]string
}

// WriteSamplePage writes a sample detail for people.
func WriteSamplePage(w io.Writer, d *pack.SampleDetail) error {
	page := struct {
		*pack.SampleDetail
		Records []shownRecord
		NoEnd   string
	}{SampleDetail: d}
	for i, r := range d.Records {
		title := "The decision"
		if i > 0 {
			title = "Its end"
		}
		page.Records = append(page.Records, shownRecord{r, title, fieldsOf([]byte(r.Record))})
	}
	if len(d.Records) == 1 {
		page.NoEnd = "No end is sealed: it was refused, or was open, or its process was lost."
	}
	return pages.ExecuteTemplate(w, "sample", page)
}

// fieldsOf are the fields of a record in their order, each as in its JSON.
func fieldsOf(record []byte) [][2]string {
	decoder := json.NewDecoder(bytes.NewReader(record))
	if t, err := decoder.Token(); err != nil || t != json.Delim('{') {
		return [][2]string{{"record", string(record)}}
	}
	var list [][2]string
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			break
		}
		var value json.RawMessage
		if decoder.Decode(&value) != nil {
			break
		}
		var text string
		if json.Unmarshal(value, &text) != nil {
			text = strings.TrimSpace(string(value))
		}
		if name == "duration" {
			text += " microseconds"
		}
		list = append(list, [2]string{fmt.Sprint(name), text})
	}
	return list
}
