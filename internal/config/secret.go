package config

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// secretMark is what a secret shows of itself.
const secretMark = "<secret>"

// maxSecret keeps a secret within what a request head holds.
const maxSecret = 8 << 10

// Secret is a value that never prints: formatted, marshalled or logged it is <secret>. In the file it is a mapping with
// exactly one of
//
//	value: the text itself
//	env: the NAME of an environment variable
//	file: the absolute path of a file, whose trailing newline is not part of it
//
// Only [Secret.Reveal] gives the text. The zero Secret is empty.
type Secret struct {
	// text is behind a pointer because fmt does not call the methods of what it finds in unexported fields: it prints
	// an address there.
	text *string
}

// NewSecret wraps a text.
func NewSecret(text string) Secret { return Secret{text: &text} }

// Reveal is the secret itself. Every call of it is a place to look at.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no secret at all.
func (s Secret) IsZero() bool { return s.text == nil || *s.text == "" }

// String implements [fmt.Stringer] and shows nothing.
func (s Secret) String() string { return secretMark }

// GoString implements [fmt.GoStringer] and shows nothing.
func (s Secret) GoString() string { return secretMark }

// Format implements [fmt.Formatter], for verbs such as %x and %q that would go around String.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, secretMark) }

// MarshalJSON shows nothing.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + secretMark + `"`), nil }

// MarshalText shows nothing.
func (s Secret) MarshalText() ([]byte, error) { return []byte(secretMark), nil }

// MarshalYAML shows nothing.
func (s Secret) MarshalYAML() (any, error) { return secretMark, nil }

// secret reads a [Secret].
func secret(to *Secret) func(value) {
	return func(v value) {
		text, _, ok := readSecret(v)
		if !ok {
			return
		}
		if problem := checkSecret(text); problem != "" {
			v.problem("%s", problem)
			return
		}
		*to = NewSecret(text)
	}
}

// readSecret is what a mapping with exactly one of value, env and file stands for, and the file, if it is in one, even
// where that cannot be read.
func readSecret(v value) (text, file string, ok bool) {
	const want = "exactly one of {value: text}, {env: NAME} or {file: /path}"
	v.hidden = true
	if v.reported() {
		return "", "", false
	}
	if k := v.kind(); k != "a mapping" {
		v.problem("wants %s, not %s", want, k)
		return "", "", false
	}
	before := v.d.count[Error]
	written := v.mapping(fields{
		"value": func(v value) { text, _ = v.text("text") },
		"env":   func(v value) { text, _ = v.secretEnv() },
		"file":  func(v value) { text, file, _ = v.secretFile() },
	})
	switch {
	case v.d.count[Error] > before:
		return "", file, false
	case len(written) != 1:
		v.problem("wants %s", want)
		return "", file, false
	}
	return text, file, true
}

// secretEnv is what the environment variable that is named holds.
func (v value) secretEnv() (string, bool) {
	name, ok := v.text("the NAME of an environment variable")
	if !ok {
		return "", false
	}
	if !variableName.MatchString(name) {
		v.problem("wants the NAME of an environment variable, not its value")
		return "", false
	}
	text, set := v.d.opts.Getenv(name)
	if !set {
		// The name is quoted as it is in the file, never as it was expanded.
		v.problem("%s", unsetVariable(v.node.Value, true))
		return "", false
	}
	return text, true
}

// secretFile is what the file that is named holds, and its path.
func (v value) secretFile() (text, path string, ok bool) {
	path, ok = v.text("the absolute path of a file")
	if !ok {
		return "", "", false
	}
	if !filepath.IsAbs(path) {
		v.problem("wants the absolute path of a file, such as /run/secrets/token")
		return "", "", false
	}
	data, ok := v.file(path)
	return trimSecret(data), path, ok
}

// trimSecret is the secret that a file holds.
func trimSecret(data []byte) string { return strings.TrimRight(string(data), "\r\n") }

// checkSecret checks that a secret survives its way into a header.
func checkSecret(text string) string {
	switch {
	case text == "":
		return "is empty: an empty secret would be sent as if it were one"
	case len(text) > maxSecret:
		return fmt.Sprintf("is longer than %v", Size(maxSecret))
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }):
		return "holds a line break or another control character"
	case strings.TrimSpace(text) != text:
		return "begins or ends with a space"
	}
	return ""
}
