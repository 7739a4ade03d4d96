package proxy

import (
	"bytes"
	"strings"
)

// secret is the credential that an agent is shown, without the scheme before
// it. It must not come back to a client, whatever the agent does with it.
type secret []byte

// minSecret is the length from which a credential is looked for: a shorter one
// would be found in any text.
const minSecret = 8

func newSecret(value string) secret {
	if i := strings.LastIndexByte(value, ' '); i >= 0 {
		value = value[i+1:]
	}
	if len(value) < minSecret {
		return nil
	}
	return secret(value)
}

// within is how many bytes the longest beginning of the secret has that its first n
// bytes end with, themselves apart.
func (s secret) within(n int) int {
	for k := n - 1; k > 0; k-- {
		if bytes.HasSuffix(s[:n], s[:k]) {
			return k
		}
	}
	return 0
}

func (s secret) in(b []byte) bool { return len(s) > 0 && bytes.Contains(b, s) }

// hide takes the secret out of a text.
func (s secret) hide(text string) string {
	if len(s) == 0 || !strings.Contains(text, string(s)) {
		return text
	}
	return strings.ReplaceAll(text, string(s), "[hidden]")
}

// mask overwrites a secret in the bytes of an answer as they come, with as many
// asterisks, so that no length changes. A secret that arrives in pieces is
// recognised too; of it at most the piece that was read first has gone on, and
// less than maskFrom bytes of that.
type mask struct {
	secret secret
	have   int // bytes of the secret that the last piece ended with
}

// maskFrom is how many bytes of the secret at the end of a piece are taken for
// its beginning.
const maskFrom = minSecret

func (m *mask) apply(b []byte) {
	if len(m.secret) == 0 || len(b) == 0 {
		return
	}
	for m.have > 0 {
		rest := m.secret[m.have:]
		n := min(len(rest), len(b))
		if !bytes.Equal(b[:n], rest[:n]) {
			m.have = m.secret.within(m.have)
			continue
		}
		stars(b[:n])
		if n < len(rest) {
			m.have += n
			return
		}
		m.have = 0
	}
	at := 0
	for {
		i := bytes.Index(b[at:], m.secret)
		if i < 0 {
			break
		}
		at += i
		stars(b[at : at+len(m.secret)])
		at += len(m.secret)
	}
	for n := min(len(m.secret)-1, len(b)-at); n > 0; n-- {
		if bytes.HasSuffix(b, m.secret[:n]) {
			m.have = n
			if n >= maskFrom {
				stars(b[len(b)-n:])
			}
			return
		}
	}
}

func stars(b []byte) {
	for i := range b {
		b[i] = '*'
	}
}
