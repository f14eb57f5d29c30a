package stepapi

// The verdicts of an evaluation.
const (
	VerdictAllow = "allow"
	VerdictDeny  = "deny"
)

// Evaluations are the decisions about targets that a step asked for. No connection was
// opened and no name was resolved. Each is recorded in the audit log.
type Evaluations struct {
	Mode        string       `json:"mode"`
	Revision    Revision     `json:"revision"`
	Evaluations []Evaluation `json:"evaluations"` // in the order of the request
}

// Evaluation is the decision about a CONNECT to one target.
type Evaluation struct {
	Target  string `json:"target"`  // in its canonical form, or as sent if it has none
	Verdict string `json:"verdict"` // VerdictAllow or VerdictDeny
	// WouldDeny is true if only report mode allows the target.
	WouldDeny bool   `json:"would_deny,omitempty"`
	Reason    string `json:"reason"`
	Message   string `json:"message,omitempty"`
	Rule      string `json:"rule,omitempty"`
	// Protocol is "tls" or "any" where the target is allowed.
	Protocol string `json:"protocol,omitempty"`
	// ECH is true if the rule accepts the extension encrypted_client_hello.
	ECH bool `json:"ech,omitempty"`
	// NoSNI is true if the rule accepts a ClientHello without a server name.
	NoSNI bool `json:"no_sni,omitempty"`
	// Next is what to do about a denial, in one sentence.
	Next       string `json:"next,omitempty"`
	DecisionID string `json:"decision_id,omitempty"`
}
