package webhookcmd

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/webhook"
)

// testCommit is the commit that the branch of a test delivery has before and after the push.
const testCommit = "5a11907700000000000000000000000000000000"

// testDelivery returns a push that changes nothing. With a branch, the push has this branch,
// with the same commit before and after.
func testDelivery(r *config.WebhookReceiver, repository, branch string) (event string, body []byte, err error) {
	if repository == "" && len(r.Repositories) > 0 {
		repository = r.Repositories[0]
	}
	if repository == "" {
		repository = "sallyport/test"
	}
	id := uuid.NewV4()
	if uuid.IsCanonical(repository) {
		id, repository = repository, "sallyport/test"
	}
	project, slug, ok := strings.Cut(repository, "/")
	if !ok {
		return "", nil, fmt.Errorf("--repository %s is neither WORKSPACE/NAME nor a UUID", printable.Quote(repository))
	}
	event = "repo:push"
	content := map[string]any{"repository": map[string]any{"full_name": repository, "uuid": "{" + id + "}"}, "push": map[string]any{"changes": cloudChanges(branch)}}
	if r.Kind == webhook.DataCenter {
		event = "repo:refs_changed"
		content = map[string]any{"eventKey": event, "repository": map[string]any{"slug": slug, "id": 1, "project": map[string]any{"key": project}}, "changes": dataCenterChanges(branch)}
	}
	if len(r.Events) > 0 && !slices.Contains(r.Events, event) {
		return "", nil, fmt.Errorf("the receiver %s does not accept %s, which the test sends: add it to the receiver's events for the test", r.Name, event)
	}
	content["sallyport_test"] = uuid.NewV4() // no two bodies are the same: a repetition is not recorded
	body, err = json.Marshal(content)
	return event, body, err
}

func cloudChanges(branch string) []any {
	if branch == "" {
		return []any{}
	}
	side := map[string]any{"type": "branch", "name": branch, "target": map[string]any{"hash": testCommit}}
	return []any{map[string]any{"old": side, "new": side}}
}

func dataCenterChanges(branch string) []any {
	if branch == "" {
		return []any{}
	}
	return []any{map[string]any{"ref": map[string]any{"id": "refs/heads/" + branch, "displayId": branch, "type": "BRANCH"}, "fromHash": testCommit, "toHash": testCommit, "type": "UPDATE"}}
}
