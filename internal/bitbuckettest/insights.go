package bitbuckettest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"unicode/utf8"
)

// Bounds of Code Insights. The API's page names the number of annotations of a report; the
// other bounds are in error messages of the API, as public clients quote them.
const (
	maxAnnotations     = 1000
	maxBulkAnnotations = 100
	maxReportData      = 10
	maxShortText       = 450  // characters of a title and of a summary
	maxLongText        = 2000 // characters of details
)

// Report returns a report of a commit, or nil.
func (r *Repository) Report(commit, id string) *Report {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	found := r.reports[commit+" "+id]
	if found == nil {
		return nil
	}
	c := *found
	c.Annotations = slices.Clone(c.Annotations)
	return &c
}

// reports answers requests about one report; annotations about the annotations of one.
func (s *Server) reports(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, none := s.findRepository(c)
	if r == nil {
		return none
	}
	key := c.args[2] + " " + c.args[3]
	switch found := r.reports[key]; {
	case c.method == http.MethodPut:
		return r.putReport(c, key)
	case found == nil:
		return failure(http.StatusNotFound, "Report %s not found", c.args[3])
	case c.method == http.MethodDelete:
		delete(r.reports, key)
		return answer{status: http.StatusNoContent}
	case c.method == http.MethodGet:
		return answer{status: http.StatusOK, body: found}
	}
	return failure(http.StatusMethodNotAllowed, "Method not allowed")
}

// invalidInsight is the answer to a request that the API does not accept. It has another
// form than the API's other errors.
func invalidInsight(format string, a ...any) answer {
	return answer{status: http.StatusBadRequest, body: map[string]any{"code": http.StatusBadRequest, "message": fmt.Sprintf(format, a...)}}
}

// putReport creates a report, or changes one and keeps its annotations.
func (r *Repository) putReport(c *call, key string) answer {
	var report Report
	if err := json.Unmarshal(c.body, &report); err != nil {
		return invalidInsight("the body is not a report: %v", err)
	}
	switch {
	case report.Title == "" || tooLong(report.Title, maxShortText) || tooLong(report.Details, maxLongText):
		return invalidInsight("title or details: missing or too long")
	case !slices.Contains([]string{"SECURITY", "COVERAGE", "TEST", "BUG"}, report.Type):
		return invalidInsight("report_type: %q", report.Type)
	case !slices.Contains([]string{"", "PASSED", "FAILED", "PENDING", "SKIPPED", "IGNORED"}, report.Result):
		return invalidInsight("result: %q", report.Result)
	case len(report.Data) > maxReportData:
		return invalidInsight("data: more than %d elements", maxReportData)
	}
	for _, d := range report.Data {
		if !slices.Contains([]string{"BOOLEAN", "DATE", "DURATION", "LINK", "NUMBER", "PERCENTAGE", "TEXT"}, d.Type) || d.Title == "" || d.Value == nil {
			return invalidInsight("data: %q %q", d.Title, d.Type)
		}
	}
	if before := r.reports[key]; before != nil {
		report.Annotations = before.Annotations
	}
	if r.reports == nil {
		r.reports = map[string]*Report{}
	}
	r.reports[key] = &report
	return answer{status: http.StatusOK, body: &report}
}

func tooLong(s string, limit int) bool { return utf8.RuneCountInString(s) > limit }

func (s *Server) annotations(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, none := s.findRepository(c)
	if r == nil {
		return none
	}
	report := r.reports[c.args[2]+" "+c.args[3]]
	switch {
	case report == nil:
		return failure(http.StatusNotFound, "Report %s not found", c.args[3])
	case c.method != http.MethodPost:
		return failure(http.StatusMethodNotAllowed, "Method not allowed")
	}
	var list []Annotation
	if err := json.Unmarshal(c.body, &list); err != nil {
		return invalidInsight("the body is not a list of annotations: %v", err)
	}
	if len(list) > maxBulkAnnotations {
		return invalidInsight("Bulk upload supports a maximum of /%d annotations.", maxBulkAnnotations)
	}
	if len(report.Annotations)+len(list) > maxAnnotations {
		return invalidInsight("a report has at most %d annotations", maxAnnotations)
	}
	for _, a := range list {
		switch {
		case a.ExternalID == "" || slices.ContainsFunc(report.Annotations, func(b Annotation) bool { return a.ExternalID == b.ExternalID }):
			return invalidInsight("external_id: missing or not unique: %q", a.ExternalID)
		case a.Summary == "" || tooLong(a.Summary, maxShortText) || tooLong(a.Details, maxLongText):
			return invalidInsight("summary or details: missing or too long")
		case !slices.Contains([]string{"VULNERABILITY", "CODE_SMELL", "BUG"}, a.Type),
			!slices.Contains([]string{"", "LOW", "MEDIUM", "HIGH", "CRITICAL"}, a.Severity),
			!slices.Contains([]string{"", "PASSED", "FAILED", "IGNORED", "SKIPPED"}, a.Result):
			return invalidInsight("annotation_type, severity or result: %q %q %q", a.Type, a.Severity, a.Result)
		}
		report.Annotations = append(report.Annotations, a)
	}
	return answer{status: http.StatusOK, body: list}
}
