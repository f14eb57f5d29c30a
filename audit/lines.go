package audit

import (
	"slices"
	"strconv"
	"strings"
)

// An attribute holds 2,048 bytes, an event a hundred attributes. A list of lines is
// so many attributes as it needs: name, name_2 and so on.
const (
	lineBytes     = 2000
	lineSeparator = "; "
)

// OneLine makes texts fit a list of lines: each is escaped and capped, and has no
// separator in it.
func OneLine(texts []string) []string {
	list := make([]string, len(texts))
	for i, l := range texts {
		list[i] = strings.ReplaceAll(Text(l, lineBytes/2), ";", ",")
	}
	return list
}

// AppendLines adds lines, made by [OneLine], to attributes called name, name_2 and so
// on, to as many as most; where that is too few, name_left_out counts the others.
func AppendLines(to []Attribute, name string, lines []string, most int) []Attribute {
	var b strings.Builder
	n := 1
	flush := func() {
		if b.Len() > 0 {
			to = append(to, Attribute{Name: attributeName(name, n), Value: b.String()})
			b.Reset()
			n++
		}
	}
	for i, l := range lines {
		if b.Len() > 0 && b.Len()+len(lineSeparator)+len(l) > lineBytes {
			flush()
		}
		if n > most {
			return append(to, Attribute{Name: name + "_left_out", Value: strconv.Itoa(len(lines) - i)})
		}
		if b.Len() > 0 {
			b.WriteString(lineSeparator)
		}
		b.WriteString(l)
	}
	flush()
	return to
}

// Lines reads what [AppendLines] has written.
func Lines(attributes map[string]string, name string) (list []string) {
	for n := 1; attributes[attributeName(name, n)] != ""; n++ {
		list = append(list, strings.Split(attributes[attributeName(name, n)], lineSeparator)...)
	}
	return list
}

// ChangedLines are the lines that came, each with a plus and a space before it, and
// those that went, with a minus.
func ChangedLines(before, after []string) []string {
	var list []string
	for _, l := range after {
		if !slices.Contains(before, l) {
			list = append(list, "+ "+l)
		}
	}
	for _, l := range before {
		if !slices.Contains(after, l) {
			list = append(list, "- "+l)
		}
	}
	return list
}

func attributeName(name string, n int) string {
	if n == 1 {
		return name
	}
	return name + "_" + strconv.Itoa(n)
}
