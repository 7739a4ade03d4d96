package proxy

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// cutLine takes the first line off a head that has passed the guard, or off a
// backend's that has passed scanHead. ok is false at its end.
func cutLine(raw []byte) (name, value, rest []byte, ok bool) {
	line, rest, _ := bytes.Cut(raw, []byte("\r\n"))
	name, value, ok = bytes.Cut(line, []byte(":"))
	return name, trimSpace(value), rest, ok
}

// nominated appends to dst the values of all Connection lines that name other
// headers: those belong to one connection and end here.
func nominated(dst [][]byte, raw []byte) [][]byte {
	for {
		name, value, rest, ok := cutLine(raw)
		if !ok {
			return dst
		}
		raw = rest
		if len(name) == len("Connection") && is(name, "connection") &&
			!bytes.EqualFold(value, []byte("keep-alive")) && !bytes.EqualFold(value, []byte("close")) {
			dst = append(dst, value)
		}
	}
}

// names reports whether lists of tokens, as in Connection, hold a name.
func names(lists [][]byte, name []byte) bool {
	for _, list := range lists {
		for len(list) > 0 {
			var token []byte
			token, list, _ = bytes.Cut(list, []byte(","))
			if bytes.EqualFold(trimSpace(token), name) {
				return true
			}
		}
	}
	return false
}

// neverForwarded are headers that a client cannot have sent on to a backend,
// whatever the configuration lists: they carry credentials, or say who the
// client is, which only server.trusted_proxies decides.
var neverForwarded = []string{
	"authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "openai-api-key", "cookie",
	"forwarded", "x-real-ip", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-server",
}

// appendClientHeaders appends the lines of the client's head that go on to the
// agent. It reads the raw bytes, as the guard did. known says that the proxy asks
// who is calling: then x-api-key is its own, and an Authorization that repeats it is
// not the backend's.
func (a *agent) appendClientHeaders(dst []byte, client *fasthttp.RequestHeader, known bool) []byte {
	raw := client.RawHeaders()
	var store [4][]byte
	hop := nominated(store[:0], raw)
	keys := presented(client)
	var lower [64]byte
	for {
		name, value, rest, ok := cutLine(raw)
		if !ok {
			return dst
		}
		raw = rest
		if len(name) > len(lower) {
			continue
		}
		odd := false
		for i, b := range name {
			lower[i] = b | 0x20
			odd = odd || nameByte[b] != byteName
		}
		if odd || !a.forwards(string(lower[:len(name)])) || !cleanValue(value) || names(hop, name) {
			continue
		}
		if is(name, "idempotency-key") {
			value = client.Peek("Idempotency-Key") // the items of a batch have each their own
		}
		if is(name, "authorization") {
			if known && keys.repeated(value) {
				continue
			}
		} else if keys.in(value) {
			continue
		}
		dst = append(dst, name...)
		dst = append(dst, ": "...)
		dst = append(dst, value...)
		dst = append(dst, "\r\n"...)
	}
}

// credentials are what a client has presented to be let in. They stay here even
// where the client says them once more in a header that goes on.
type credentials [2][]byte

func presented(client *fasthttp.RequestHeader) (c credentials) {
	c[0] = client.Peek("Authorization")
	if _, token, ok := bytes.Cut(c[0], []byte(" ")); ok {
		c[0] = trimSpace(token)
	}
	c[1] = client.Peek("X-Api-Key")
	return c
}

// in reports whether a value repeats one of the credentials. What is too short
// to be one may be part of anything.
func (c *credentials) in(value []byte) bool {
	for _, k := range c {
		if len(k) >= 8 && bytes.Contains(value, k) {
			return true
		}
	}
	return false
}

// repeated reports whether an Authorization holds the value of x-api-key.
func (c *credentials) repeated(value []byte) bool {
	return len(c[1]) >= 8 && bytes.Contains(value, c[1])
}

// hops are the X-Forwarded-* lines for the agents, nil if the client is not a
// trusted proxy. Each is set once: the chain that the peer passed on, and the
// peer; the scheme and host that it tells, or else ours. What does not look like
// what it should be is left out.
func (s *snapshot) hops(ctx *fasthttp.RequestCtx) []byte {
	trusted := s.conf.Server.TrustedProxies
	if len(trusted) == 0 {
		return nil
	}
	peer, ok := peerOf(ctx.RemoteAddr())
	if !ok || !within(trusted, peer) {
		return nil
	}
	var chain, proto, host []byte
	chains := true
	h := &ctx.Request.Header
	for raw := h.RawHeaders(); ; {
		name, value, rest, ok := cutLine(raw)
		if !ok {
			break
		}
		raw = rest
		switch {
		case is(name, "x-forwarded-for"):
			for len(value) > 0 {
				var one []byte
				one, value, _ = bytes.Cut(value, []byte(","))
				addr, err := parseHop(string(trimSpace(one)))
				if err != nil || len(chain) > maxHops {
					chains = false
					break
				}
				chain = addr.AppendTo(chain)
				chain = append(chain, ", "...)
			}
		case is(name, "x-forwarded-proto") && (bytes.EqualFold(value, []byte("https")) || bytes.EqualFold(value, []byte("http"))):
			proto = bytes.ToLower(value)
		case is(name, "x-forwarded-host") && validHost(value):
			host = value
		}
	}
	if !chains {
		chain = nil
	}
	if proto == nil {
		proto = []byte("http")
		if overTLS(ctx.Conn()) {
			proto = []byte("https")
		}
	}
	if host == nil {
		host = h.Host()
	}
	b := append([]byte("X-Forwarded-For: "), chain...)
	b = peer.AppendTo(b)
	b = append(b, "\r\nX-Forwarded-Proto: "...)
	b = append(b, proto...)
	if len(host) > 0 {
		b = append(b, "\r\nX-Forwarded-Host: "...)
		b = append(b, host...)
	}
	return append(b, "\r\n"...)
}

// maxHops bounds the bytes of a chain of addresses.
const maxHops = 1 << 10

// parseHop reads an address as proxies write it: with or without a port, an IPv6
// address in brackets or not.
func parseHop(s string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.WithZone("").Unmap(), nil
	}
	ap, err := netip.ParseAddrPort(s)
	return ap.Addr().WithZone("").Unmap(), err
}

func peerOf(a net.Addr) (netip.Addr, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	return t.AddrPort().Addr().WithZone("").Unmap(), true
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// passedHeaders are the headers of an agent's answer that reach the client: what
// its operator or its vendor says to whoever calls, and nothing that counts,
// names or tracks. Ours come besides.
var passedHeaders = []string{"openai-processing-ms", "openai-version", "deprecation", "sunset", "traceresponse"}

// maxPassed bounds what is passed on of an answer's headers, in bytes.
const maxPassed = 2 << 10

// appendPassed appends the lines of an answer's head that go on to the client.
// With challenge WWW-Authenticate does too.
func (a *agent) appendPassed(dst []byte, x *exchange, challenge bool) []byte {
	if !challenge && !slices.ContainsFunc(passedHeaders, func(name string) bool { return x.Header(name) != nil }) {
		return dst // as with most agents, and without the cost of a walk
	}
	var hop [][]byte
	for name, value := range x.Headers() {
		if is(name, "connection") {
			hop = append(hop, append([]byte(nil), value...))
		}
	}
	for name, value := range x.Headers() {
		if !passes(name, challenge) || names(hop, name) || !printableASCII(value) || len(dst)+len(name)+len(value)+4 > maxPassed || says(dst, name) {
			continue
		}
		at := len(dst)
		dst = append(dst, name...)
		dst = append(dst, ": "...)
		dst = append(dst, value...)
		if a.secret.in(dst[at:]) {
			dst = dst[:at]
			continue
		}
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// says reports whether lines have one of a name.
func says(lines, name []byte) bool {
	for {
		have, _, rest, ok := cutLine(lines)
		if !ok {
			return false
		}
		if bytes.EqualFold(have, name) {
			return true
		}
		lines = rest
	}
}

func passes(name []byte, challenge bool) bool {
	for _, p := range passedHeaders {
		if is(name, p) {
			return true
		}
	}
	return challenge && is(name, "www-authenticate")
}

func printableASCII(v []byte) bool {
	for _, b := range v {
		if b < ' ' || b > 0x7e {
			return false
		}
	}
	return len(v) > 0
}

// setPassed writes lines of appendPassed into a response.
func setPassed(h *fasthttp.ResponseHeader, lines []byte) {
	for {
		name, value, rest, ok := cutLine(lines)
		if !ok {
			return
		}
		lines = rest
		h.SetBytesKV(name, value)
	}
}
