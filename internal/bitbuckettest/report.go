package bitbuckettest

// Report is a report of Code Insights, with its annotations (REST 2.0, Reports).
type Report struct {
	ExternalID  string       `json:"external_id"`
	Title       string       `json:"title"`
	Details     string       `json:"details"`
	Reporter    string       `json:"reporter"`
	Link        string       `json:"link"`
	Type        string       `json:"report_type"`
	Result      string       `json:"result"`
	Data        []ReportData `json:"data"`
	Annotations []Annotation `json:"-"`
}

// ReportData is one value of a report.
type ReportData struct {
	Title string `json:"title"`
	Type  string `json:"type"`
	Value any    `json:"value"`
}

// Annotation is one finding of a report.
type Annotation struct {
	ExternalID string `json:"external_id"`
	Type       string `json:"annotation_type"`
	Summary    string `json:"summary"`
	Details    string `json:"details"`
	Result     string `json:"result"`
	Severity   string `json:"severity"`
	Path       string `json:"path"`
	Line       int    `json:"line"`
	Link       string `json:"link"`
}
