package report

import (
	"fmt"
	"io"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// A criterion is one that a section supports, in our own words.
type criterion struct{ Name, Requirement string }

// criteria are those of the Trust Services Criteria (2017, points of focus of
// 2022) that a section names, paraphrased.
var criteria = []criterion{
	{"A1.2", "recovery: outages are known and bounded"},
	{"C1.1", "confidential information is identified and kept as long as needed"},
	{"C1.2", "confidential information is disposed of as agreed"},
	{"CC3.4", "changes that affect controls are found and assessed"},
	{"CC4.1", "controls are evaluated, on an ongoing basis or separately"},
	{"CC6.1", "logical access to what is protected is controlled, and clients are identified"},
	{"CC6.2", "access is registered and authorized before it is granted, and is revoked"},
	{"CC6.3", "access follows roles and least privilege, and is changed and removed"},
	{"CC6.6", "threats from outside of the system's boundary are kept out"},
	{"CC6.7", "transmission and movement of information is restricted"},
	{"CC7.1", "changes of configuration and new weaknesses are detected"},
	{"CC7.2", "the system is monitored for anomalies"},
	{"CC7.3", "security events are evaluated"},
	{"CC7.4", "security incidents are responded to"},
	{"CC8.1", "changes are authorized, tested, approved and put in place in a controlled way"},
	{"CC9.2", "risk from vendors and partners is assessed"},
	{"PI1.4", "output is complete and accurate"},
	{"PI1.5", "what is stored is complete, accurate and protected"},
}

// supported is a criterion with the sections that support it.
type supported struct {
	criterion
	Sections []Rendered
}

// page is what the report's template is given.
type page struct {
	Facts      *pack.Facts
	Checkpoint audit.Checkpoint
	Sections   []Rendered
	Supported  []supported
	Sample     []string // ids
	Seed       string
	Missing    *missingSection
}

// WritePage writes the report.
func WritePage(w io.Writer, f *pack.Facts, sections []Rendered, sample []string, seed string) error {
	c, err := audit.ReadCheckpoint([]byte(f.Checkpoint))
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	p := page{Facts: f, Checkpoint: c, Sections: sections, Sample: sample, Seed: seed, Missing: new(missingSection)}
	p.Missing.count(f)
	for _, one := range criteria {
		s := supported{criterion: one}
		for _, r := range sections {
			for _, name := range r.Criteria {
				if name == one.Name {
					s.Sections = append(s.Sections, r)
				}
			}
		}
		if len(s.Sections) > 0 {
			p.Supported = append(p.Supported, s)
		}
	}
	return pages.ExecuteTemplate(w, "report", &p)
}

// WriteAccessPage writes the page about the database as it is now.
func WriteAccessPage(w io.Writer, d pack.Database, tables []pack.Table) error {
	return pages.ExecuteTemplate(w, "access", struct {
		Database pack.Database
		Tables   []pack.Table
	}{d, tables})
}
