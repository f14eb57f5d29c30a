package auditcmd

import (
	"io"

	"github.com/sallyport/sallyport/audit"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

// gapsJSON is the report of `audit gap list`.
type gapsJSON struct {
	Gaps []gapJSON  `json:"gaps"`
	Lost []lostJSON `json:"lost"`
}

type gapJSON struct {
	Writer   string `json:"writer"`
	First    int64  `json:"first"`
	Last     int64  `json:"last"`
	Declared bool   `json:"declared"`
	Reason   string `json:"reason,omitempty"`
}

type lostJSON struct {
	Writer     string `json:"writer"`
	First      int64  `json:"first"`
	Last       int64  `json:"last"`
	ReportedBy string `json:"reported_by"`
}

// printGapsJSON returns how many gaps are not declared.
func printGapsJSON(out io.Writer, gaps []auditsealer.Gap, lost []audit.LostRange) (open int, err error) {
	j := gapsJSON{Gaps: []gapJSON{}, Lost: []lostJSON{}}
	for _, g := range gaps {
		one := gapJSON{Writer: g.Writer, First: g.First, Last: g.Last, Declared: g.Declared != nil}
		if g.Declared != nil {
			one.Reason = g.Declared.Reason
		} else {
			open++
		}
		j.Gaps = append(j.Gaps, one)
	}
	for _, l := range lost {
		j.Lost = append(j.Lost, lostJSON{l.Writer, l.First, l.Last, l.By})
	}
	return open, cli.PrintJSON(out, j)
}
