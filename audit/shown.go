package audit

import (
	"encoding/json"
	"unicode/utf8"
)

// Kinds are all kinds of events.
var Kinds = []Kind{
	KindDecision, KindTunnelClosed, KindRequestClosed, KindWouldClose, KindTargetEvaluated, KindNetworkChecked,
	KindPolicyLoaded, KindPolicyRejected, KindRepositoryPolicyRejected, KindPolicyWorkerTerminated, KindPolicyReevaluated, KindPolicyApproval, KindExceptionExpiring, KindCandidateMismatch,
	KindWriterStarted, KindWriterEnded, KindWriterLost, KindSigningKey, KindLogForked, KindNameReassigned, KindAdmin,
	KindExport, KindRetention, KindHoldSet, KindHoldLifted,
	KindReconciled, KindDeploymentUnobserved, KindSelfTest, KindRefusalsRepeated, KindUnrecordedTotals, KindCheckpointsThinned, KindSchemaAttested, KindAccessAttested, KindEventsLost, KindGapDeclared,
	KindWebhookReceived, KindWebhookDelivered, KindWebhookFailed, KindWebhookUnqueued,
	KindSecretAges,
}

// AppendString appends s as a JSON string that may be shown: what [Text] would
// escape, because it moves, hides or splits text on a terminal, is escaped as
// JSON does (RFC 8259 section 7), so that a reader of JSON gets s back. Bytes that
// are not UTF-8 become U+FFFD.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	if isPlain(s) {
		for i := range len(s) {
			if c := s[i]; c == '"' || c == '\\' {
				b = append(b, '\\')
			}
			b = append(b, s[i])
		}
		return append(b, '"')
	}
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20, r == 0x7f, hides(r):
			b = appendEscape(b, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// AppendShown appends JSON so that it may be shown, on one line and with the same
// meaning; see [AppendString]. What is not JSON is appended as a string.
func AppendShown(b, raw []byte) []byte {
	if !json.Valid(raw) {
		return AppendString(b, string(raw))
	}
	if isPlain(string(raw)) {
		return append(b, raw...)
	}
	for _, r := range string(raw) {
		switch {
		case r < 0x20: // JSON has it between its parts alone
			b = append(b, ' ')
		case r == 0x7f, hides(r):
			b = appendEscape(b, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

// appendEscape appends \uNNNN. No rune that needs it is above U+FFFF.
func appendEscape(b []byte, r rune) []byte {
	return append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

// AppendFollowed appends the line of a sealed event for a client that streams the log:
// that of an export where the event is there, with a line break at its end. Where it
// is not, because retention has removed it, the line has the content of its leaf:
//
//	{"leaf":7,"writer":"…","writer_sequence":3,"hash":"…","gone":true}
//
// and one whose record is not what was sealed has "record_base64" in the place of
// "gone".
func AppendFollowed(b []byte, e *Entry) []byte {
	if e.Record != nil && plainRecord(e.Record) && e.Hash == Leaf(e.Record) {
		b = append(appendIndex(b, e.Index), ',')
		b = append(b, recordPart...)
		b = append(b, e.Record...)
		return append(b, '}', '\n')
	}
	b = append(appendIndex(b, e.Index), `,"writer":`...)
	b = AppendString(b, e.Writer)
	b = append(b, `,"writer_sequence":`...)
	b = appendJSON(b, e.Sequence)
	b = append(b, `,"hash":`...)
	b = appendJSON(b, e.Hash)
	if e.Record == nil {
		return append(b, `,"gone":true}`+"\n"...)
	}
	b = append(b, `,"record_base64":`...)
	b = appendJSON(b, e.Record)
	return append(b, '}', '\n')
}

func appendIndex(b []byte, index int64) []byte { return appendJSON(append(b, leafField...), index) }
