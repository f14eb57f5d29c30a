package audit

import (
	"encoding/json"
	"fmt"
	"time"
)

// Continued is a tunnel that report mode let continue and that enforce mode closes, as its
// record has it (kind would_close).
type Continued struct {
	Time           time.Time `json:"time"`
	DecisionID     string    `json:"decision_id"`
	CredentialKind string    `json:"credential_kind"`
	WorkspaceUUID  string    `json:"workspace_uuid"`
	RepositoryUUID string    `json:"repository_uuid"`
	DeploymentUUID string    `json:"deployment_uuid"`
	Repository     string    `json:"repository"`
	Deployment     string    `json:"deployment"`
	Host           string    `json:"host"`
	Port           int       `json:"port"`
	Rule           string    `json:"rule"`         // of the decision that let the tunnel pass
	CloseReason    string    `json:"close_reason"` // of enforce mode
}

// ReadContinued reads the record of a tunnel that report mode let continue. ok is false for
// a record of another kind.
func ReadContinued(record []byte) (c Continued, ok bool, err error) {
	if kindOf(record) != KindWouldClose {
		return c, false, nil
	}
	if err := json.Unmarshal(record, &c); err != nil {
		return c, false, fmt.Errorf("read the record of a would_close event: %w: run `sallyport audit verify` to check the log for damage", err)
	}
	c.Time = c.Time.UTC()
	return c, true, nil
}
