package translate

import (
	"strings"
	"testing"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// TestHalvesWaitForEachOther joins pieces as a client that joins UTF-16 strings
// would.
func TestHalvesWaitForEachOther(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pieces, want string }{
		{`a`, "a"},
		{`a\ud83c|\udf0db`, "a|🌍b"},
		{`\ud83c|\udf0d`, "|🌍"},
		{`\ud83c\udf0d|\ud83c|\udf0d\ud83c|\udf0d`, "🌍||🌍|🌍"},
		{`\ud83c|x`, "|\uFFFDx"},
		{`\udf0d|\udf0d`, "\uFFFD|\uFFFD"},
		{`\ud83c|\ud83c|\udf0d`, "|\uFFFD|🌍"},
		{`a\ud83c`, "a|\uFFFD"},
		{`\\ud83c|\udf0d`, `\ud83c` + "|\uFFFD"},
		{`\ufffd|\udf0d`, "\uFFFD|\uFFFD"},
		{"\uFFFD" + `|\udf0d`, "\uFFFD|\uFFFD"},
		{`\uD83C|\uDF0D`, "|🌍"},
	} {
		var p pairing
		var got []string
		for raw := range strings.SplitSeq(c.pieces, "|") {
			text, ok := jsonx.Unquote(nil, []byte(`"`+raw+`"`))
			if !ok {
				t.Fatalf("%s is no string", raw)
			}
			got = append(got, string(p.join(text, halvesOf(text, []byte(raw)))))
		}
		if rest := p.rest(); rest != nil {
			got = append(got, string(rest))
		}
		if got := strings.Join(got, "|"); got != c.want {
			t.Errorf("%s: %q, want %q", c.pieces, got, c.want)
		}
	}
}
