package postgres

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

const actionWebhook = "webhook"

// Bounds of the refs in an event.
const (
	maxRefs     = 20
	maxRefsText = 1500
)

func isAllowed(decision webhook.Decision) bool { return decision.Verdict == policy.Allow }

// receivedEvent is the event of a delivery and its decision: never the body, and of the
// header only what is listed here.
func receivedEvent(id string, d *webhook.Delivery, decision webhook.Decision) *audit.Event {
	e := &audit.Event{
		Kind: audit.KindWebhookReceived, DecisionID: id, Action: actionWebhook, ClientAddress: d.Client, Listener: d.Listener,
		Verdict: decision.Verdict.String(), Mode: decision.Mode.String(), WouldDeny: decision.WouldDeny, Reason: string(decision.Reason),
		Rule: decision.Rule, Rules: decision.Rules, Message: decision.Message,
		Revision: decision.Revision.Digest, Commit: decision.Revision.Commit, RepositoryRevision: decision.RepositoryRevision.Digest,
		Status: 200, Input: decision.Input, Source: source(d.Receiver, d.Event),
	}
	if r := d.Event.Repository; r != nil {
		e.Repository, e.RepositoryUUID, e.Project = r.FullName, r.UUID, r.Project
	}
	attribute(e, "receiver", d.Receiver)
	attribute(e, "kind", d.Event.Kind.String())
	attribute(e, "event", d.Event.Key)
	attribute(e, "refs", refsText(d.Event))
	attribute(e, "actor", actorText(d.Event.Actor))
	attribute(e, "request_id", d.RequestID)
	attribute(e, "hook_id", d.HookUUID)
	if d.Attempt > 0 {
		attribute(e, "attempt", number(int64(d.Attempt)))
	}
	attribute(e, "body_digest", hex.EncodeToString(d.Digest[:]))
	attribute(e, "routes", webhook.RoutesText(decision.Routes))
	return e
}

// source is what an event is charged to: the receiver, whose secret the sender has, and not
// the repository that the body names.
func source(receiver string, event *webhook.Event) audit.Source {
	return audit.Source{Repository: "webhook " + receiver, Step: repositoryKey(event)}
}

// refsText lists the refs that changed, for people.
func refsText(event *webhook.Event) string {
	var list []string
	for i, r := range event.Refs {
		if i == maxRefs {
			list = append(list, fmt.Sprintf("%d more", len(event.Refs)-i))
			break
		}
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Type, r.Name, r.Change, commits(r.Old, r.New))))
	}
	if event.Incomplete {
		list = append(list, "others that the delivery does not list")
	}
	return audit.Text(strings.Join(list, "; "), maxRefsText)
}

func commits(before, after string) string {
	if before == "" || after == "" {
		return before + after
	}
	return before + ".." + after
}

func actorText(a webhook.Actor) string {
	if a.UUID != "" || a.ID == 0 {
		return a.UUID
	}
	return number(a.ID)
}
