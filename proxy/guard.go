package proxy

import (
	"bytes"

	"github.com/valyala/fasthttp"

	"github.com/dragoman-proxy/dragoman/translate"
)

// Bounds of a request's head beside the bytes of all of it (server.max_header).
const (
	maxTarget  = 8 << 10 // bytes of path and query; RFC 9112, section 3, asks for 8000 at least
	maxHeaders = 128     // lines; the SDKs send about twenty, and a mesh adds as many
)

// guard refuses what could mean one thing to us and another to whoever is in
// front of us or behind us. It looks at the raw bytes of the head, because
// fasthttp repairs some of what is wrong there and forgets the rest, and it runs
// before anything else believes the head, whether there is a route or not. The
// face was chosen for its words only.
//
// Where it is in doubt where the request ends, the connection is closed behind
// the answer, so that what follows is never served as a request.
func (c *call) guard(ctx *fasthttp.RequestCtx) *translate.Error {
	h := &ctx.Request.Header
	hd := head{
		method: h.Method(), target: h.RequestURI(), http10: !h.IsHTTP11(), odd: h.Protocol(),
		raw: h.RawHeaders(), trusts: len(c.snap.conf.Server.TrustedProxies) > 0,
	}
	if r := c.match.route; r != nil {
		hd.json = r.Op == translate.OpGenerate || r.Op == translate.OpBatch
	}
	f := hd.check()
	if f == nil {
		c.hops = c.snap.hops(ctx)
		return nil
	}
	if f.closes {
		ctx.Response.Header.SetConnectionClose()
	}
	return f.error()
}

// head is a request's head as the guard sees it.
type head struct {
	method []byte
	target []byte
	odd    []byte // the version, as written
	raw    []byte // header lines, each with its end, and the empty one
	http10 bool
	json   bool // the body is to be JSON
	trusts bool // X-Forwarded-* may be believed, of some peers
}

// fault is a reason to refuse a head.
type fault struct {
	status  int
	code    string
	message string
	closes  bool // it is in doubt where the request ends
}

func (f *fault) error() *translate.Error {
	e := &translate.Error{Kind: translate.KindInvalid, Status: f.status, Code: f.code, Message: f.message}
	if f.status == 415 {
		e.Kind = translate.KindUnsupportedMedia
	}
	return e
}

func bad(code, message string) *fault { return &fault{400, code, message, true} }

var (
	faultVersion     = bad("http_version", "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
	faultMethod      = bad("method_refused", "CONNECT and TRACE are not served.")
	faultForm        = bad("request_target", "The request target must be a path: no scheme and host, no authority, no asterisk.")
	faultTarget      = bad("request_target", "The request target holds a byte that must be percent-encoded, or a fragment.")
	faultEncoded     = bad("request_target", "The path holds an encoded slash, backslash, dot segment or control character, or an invalid percent sequence.")
	faultLongTarget  = &fault{414, "request_target_too_long", "The request target is longer than 8 KiB.", true}
	faultLine        = bad("header_line", "A header line is malformed: each is a name, a colon and a value, and ends in CR LF.")
	faultFolded      = bad("header_folded", "Folded header lines are not accepted.")
	faultName        = bad("header_name", "A header's name holds something other than letters, digits and hyphens, or a space stands before its colon.")
	faultAlias       = bad("header_alias", "A header's name can be taken for another's: write it with hyphens.")
	faultValue       = bad("header_value", "A header's value holds a control character.")
	faultMany        = &fault{431, "too_many_headers", "The request has more than 128 header lines.", true}
	faultHost        = bad("host", "A request has exactly one Host header, a name or an address with or without a port.")
	faultLength      = bad("content_length", "Content-Length must be given once, as decimal digits.")
	faultCoding      = bad("transfer_encoding", "Transfer-Encoding must be given once, as chunked, and not in HTTP/1.0.")
	faultBoth        = bad("ambiguous_length", "Content-Length and Transfer-Encoding exclude each other.")
	faultTrailer     = bad("trailers", "Trailers are not accepted.")
	faultBody        = bad("unexpected_body", "A request with this method has no body here.")
	faultRepeated    = bad("repeated_header", "Authorization, X-Api-Key, Content-Type and Dragoman-Strict may be given only once.")
	faultExpectation = &fault{417, "expectation_failed", "The only expectation that is met here is 100-continue.", true}
	faultEncoding    = &fault{415, "unsupported_content_encoding", "Compressed request bodies are not accepted; send the body as it is.", false}
	faultMediaType   = &fault{415, "unsupported_media_type", "The body must be JSON in UTF-8: send it with Content-Type: application/json (with curl: -H 'Content-Type: application/json', or --json).", false}
)

// What a byte may be in a header's name.
const (
	byteName byte = 1 << iota // a letter, a digit or a hyphen
	byteOdd                   // legal in a name, and good for confusion only
	byteOther
)

var nameByte = func() (t [256]byte) {
	for c, token := range tokenByte {
		t[c] = byteOther
		if token {
			t[c] = byteOdd
		}
	}
	for c := '0'; c <= '9'; c++ {
		t[c] = byteName
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = byteName, byteName
	}
	t['-'] = byteName
	return t
}()

// seen is what the lines of a head have said so far.
type seen struct {
	length, coding, host, authorization, apiKey, expect, strict bool

	body        bool // the length is not zero
	typed       bool
	contentType []byte
}

// check returns what is wrong with the head, nil if nothing is. It allocates
// nothing.
func (h *head) check() *fault {
	if h.http10 && string(h.odd) != "HTTP/1.0" {
		return faultVersion
	}
	if m := string(h.method); m == "CONNECT" || m == "TRACE" {
		return faultMethod
	}
	if f := checkTarget(h.target); f != nil {
		return f
	}
	var s seen
	raw := h.raw
	for n := 0; len(raw) > 0; n++ {
		i := bytes.IndexByte(raw, '\n')
		if i < 1 || raw[i-1] != '\r' {
			return faultLine
		}
		line := raw[:i-1]
		raw = raw[i+1:]
		if len(line) == 0 {
			if len(raw) > 0 {
				return faultLine // lines behind the empty one
			}
			break
		}
		if len(raw) > 0 && (raw[0] == ' ' || raw[0] == '\t') {
			return faultFolded
		}
		if n == maxHeaders {
			return faultMany
		}
		if f := h.line(&s, line); f != nil {
			return f
		}
	}
	switch {
	case !s.host && !h.http10:
		return faultHost
	case s.length && s.coding:
		return faultBoth
	case s.coding && h.http10:
		return faultCoding
	case (s.body || s.coding) && !hasBody(h.method):
		return faultBody
	case h.json && s.typed && !isJSON(s.contentType):
		return faultMediaType
	}
	return nil
}

func hasBody(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "DELETE", "OPTIONS":
		return false
	}
	return true
}

// line takes in one line without its end.
func (h *head) line(s *seen, line []byte) *fault {
	k := bytes.IndexByte(line, ':')
	if k < 1 {
		return faultLine
	}
	kinds := byte(0)
	for _, b := range line[:k] {
		kinds |= nameByte[b]
	}
	if kinds&byteOther != 0 {
		return faultName
	}
	name, value := line[:k], trimSpace(line[k+1:])
	if !cleanValue(value) {
		return faultValue
	}
	if kinds&byteOdd != 0 {
		// It is dropped: never read and never sent on.
		if aliases(name, h.trusts) {
			return faultAlias
		}
		return nil
	}
	return s.note(name, value)
}

// note takes in what the guard itself reads.
func (s *seen) note(name, value []byte) *fault {
	switch len(name) {
	case len("Host"):
		if is(name, "host") {
			if s.host || !validHost(value) {
				return faultHost
			}
			s.host = true
		}
	case len("Expect"):
		if is(name, "expect") {
			if s.expect || !bytes.EqualFold(value, []byte("100-continue")) {
				return faultExpectation
			}
			s.expect = true
		}
	case len("Trailer"):
		if is(name, "trailer") {
			return faultTrailer
		}
	case len("X-Api-Key"):
		if is(name, "x-api-key") {
			if s.apiKey {
				return faultRepeated
			}
			s.apiKey = true
		}
	case len("Content-Type"):
		if is(name, "content-type") {
			if s.typed {
				return faultRepeated
			}
			s.typed, s.contentType = true, value
		}
	case len("Authorization"):
		if is(name, "authorization") {
			if s.authorization {
				return faultRepeated
			}
			s.authorization = true
		}
	case len("Content-Length"):
		if is(name, "content-length") {
			n, ok := parseLength(value)
			if s.length || !ok {
				return faultLength
			}
			s.length, s.body = true, n > 0
		}
	case len("Dragoman-Strict"):
		if is(name, "dragoman-strict") {
			if s.strict {
				return faultRepeated
			}
			s.strict = true
		}
	case len("Content-Encoding"):
		if is(name, "content-encoding") && len(value) > 0 && !bytes.EqualFold(value, []byte("identity")) {
			return faultEncoding
		}
	case len("Transfer-Encoding"):
		if is(name, "transfer-encoding") {
			if s.coding || !bytes.EqualFold(value, []byte("chunked")) {
				return faultCoding
			}
			s.coding = true
		}
	}
	return nil
}

// is compares a name of letters, digits and hyphens with one in lower case.
func is(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i := range name {
		if name[i]|0x20 != lower[i] {
			return false
		}
	}
	return true
}

func trimSpace(v []byte) []byte {
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	for len(v) > 0 && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	return v
}

// readHeaders are the headers that decide something here. A name that some
// server takes for one of them, because it makes the same variable of both, is
// a request to be misunderstood.
var readHeaders = map[string]bool{
	"authorization": true, "proxy-authorization": true, "x-api-key": true, "host": true, "connection": true, "content-length": true, "transfer-encoding": true,
	"content-type": true, "content-encoding": true, "expect": true, "trailer": true, "upgrade": true, "te": true,
	"dragoman-strict": true, "x-request-id": true, "accept": true, "idempotency-key": true,
}

// aliases reports whether a name with odd bytes reads like one of readHeaders.
func aliases(name []byte, trusts bool) bool {
	var lower [64]byte
	if len(name) > len(lower) {
		return false
	}
	for i, b := range name {
		if nameByte[b] == byteOdd {
			b = '-'
		}
		lower[i] = b | 0x20
	}
	n := lower[:len(name)]
	return readHeaders[string(n)] || trusts && (bytes.HasPrefix(n, []byte("x-forwarded-")))
}

// validHost reports whether a Host header is a name, an IPv4 address or an IPv6
// address in brackets, with or without a port. Underscores are no host names,
// and common among containers.
func validHost(v []byte) bool {
	if len(v) == 0 || len(v) > 255 {
		return false
	}
	end := 0
	if v[0] == '[' {
		end = bytes.IndexByte(v, ']') + 1
		if end < len("[::]") {
			return false
		}
		for _, b := range v[1 : end-1] {
			if hexValue(b) < 0 && b != ':' && b != '.' {
				return false
			}
		}
	} else {
		for end < len(v) && (nameByte[v[end]] == byteName || v[end] == '.' || v[end] == '_') {
			end++
		}
		if end == 0 {
			return false
		}
	}
	if end == len(v) {
		return true
	}
	port := v[end+1:]
	if v[end] != ':' || len(port) > 5 {
		return false
	}
	for _, b := range port {
		if b < '0' || b > '9' {
			return false
		}
	}
	return true
}

// isJSON reports whether a Content-Type is one of JSON in UTF-8. Whoever says
// nothing is taken to mean it.
func isJSON(v []byte) bool {
	if len(v) == 0 {
		return true
	}
	media, params, _ := bytes.Cut(v, []byte(";"))
	media = trimSpace(media)
	const prefix, suffix = "application/", "+json"
	if len(media) <= len(prefix) || !bytes.EqualFold(media[:len(prefix)], []byte(prefix)) {
		return false
	}
	sub := media[len(prefix):]
	for _, b := range sub {
		if !tokenByte[b] {
			return false
		}
	}
	if !bytes.EqualFold(sub, []byte("json")) &&
		(len(sub) <= len(suffix) || !bytes.EqualFold(sub[len(sub)-len(suffix):], []byte(suffix))) {
		return false
	}
	for len(params) > 0 {
		var one []byte
		one, params, _ = bytes.Cut(params, []byte(";"))
		key, value, _ := bytes.Cut(one, []byte("="))
		if !bytes.EqualFold(trimSpace(key), []byte("charset")) {
			continue
		}
		value = bytes.Trim(trimSpace(value), `"`)
		if !bytes.EqualFold(value, []byte("utf-8")) && !bytes.EqualFold(value, []byte("utf8")) {
			return false
		}
	}
	return true
}
