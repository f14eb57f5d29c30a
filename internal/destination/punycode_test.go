package destination

import (
	"strings"
	"testing"
)

// TestPunycode takes the sample strings of RFC 3492 section 7.1 that have no
// upper case.
func TestPunycode(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"ليهمابتكلموشعربي؟", "egbpdaj6bu4bxfgehfvwxn"},
		{"他们为什么不说中文", "ihqwcrb4cv8a8dqg056pqjye"},
		{"למההםפשוטלאמדבריםעברית", "4dbcagdahymbxekheh6e0a7fei0b"},
		{"почемужеонинеговорятпорусски", "b1abfaaepdrnnbgefbadotcwatmq2g4l"},
		{"3年b組金八先生", "3b-ww4c5e180e575a65lsy2b"},
		{"ひとつ屋根の下2", "2-u9tlzr9756bt3uc0v"},
		{"そのスピードで", "d9juau41awczczp"},
		{"bücher", "bcher-kva"},
	} {
		if got := punycode([]rune(test.in)); got != test.want {
			t.Errorf("punycode(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestASCIIHint(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"münchen.example", "xn--mnchen-3ya.example"},
		{"例え.テスト", "xn--r8jz45g.xn--zckzah"},
		{"Ärzte.Example.", "xn--rzte-koa.example"},
		{strings.Repeat("ü", 64) + ".example", ""},
		{strings.Repeat("ü", 500), ""},
		{"ü..example", ""},
		{"ü.127", ""},
		{"ﬁ.example", ""},
		{"\u200d.example", ""},
	} {
		if got := asciiHint(test.in); got != test.want {
			t.Errorf("asciiHint(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}
