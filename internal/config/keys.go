package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
)

// minKey keeps keys out of reach of guessing.
const minKey = 20

// demoKeyHash is the hash of the key that the shipped configuration publishes: dragoman-demo-key-for-loopback-only.
const demoKeyHash = "77508e020da5621e2c4fc82b8f20be170b6bca0328a5a0f37f72f760e12d349d"

// keyEntry is an entry of a list of keys while the list is read.
type keyEntry struct {
	key    Key
	at     value  // where the entry is
	limits value  // where its limits are, or the entry
	file   string // the file that the key is in, if it is in one
}

// keptKey is an entry of auth.keys as it is kept for reading again: without the key itself.
type keptKey struct {
	key    Key
	file   string
	line   int
	path   string
	limits int // the line of the limits
}

// keyReader reads keys, again and again.
type keyReader struct {
	name     string // what problems call the configuration
	opts     Options
	literal  bool      // there is no file
	line     int       // of the setting that ought to hold keys
	kept     []keptKey // the entries of auth.keys
	file     string    // auth.keys_file
	fileName string    // what problems call it
	fileLine int

	agents    []string // the names that exist; nil: they are not known
	open      bool     // keys are not needed, since everybody may call
	needed    bool     // without a key nobody could call
	reachable bool     // others than this host reach the listener

	mu      sync.Mutex
	watched []string
}

func newKeyReader(c *Config, r *authRead, reachable bool, agents []string) *keyReader {
	d := r.at.d
	k := &keyReader{
		name: d.file, opts: d.opts, literal: d.literal, file: c.Auth.KeysFile, fileLine: r.place("keys_file").node.Line,
		line: r.place("keys_file", "keys").node.Line, agents: agents, reachable: reachable,
		needed: !c.Open() && c.Auth.JWT == nil && !r.broken, open: c.Open(),
	}
	k.fileName = r.place("keys_file").node.Value
	if checkWord(k.fileName, 4096) != "" || k.fileName == "" {
		k.fileName = "auth.keys_file"
	}
	for _, e := range r.keys {
		k.kept = append(k.kept, keptKey{e.key, e.file, e.at.node.Line, e.at.path, e.limits.node.Line})
	}
	return k
}

// WatchedFiles are the files that keys come from: auth.keys_file, and those of entries with key: {file: …}. When one of
// them changes, [Config.ReadKeys] reads the keys again, after which there may be others.
func (c *Config) WatchedFiles() []string {
	if c.keys == nil || c.keys.open {
		return nil
	}
	c.keys.mu.Lock()
	defer c.keys.mu.Unlock()
	return slices.Clone(c.keys.watched)
}

// ReadKeys reads the keys again from their files, with the same rules as when the configuration was loaded. The keys are
// nil if any of the problems is an [Error]: whoever asks then keeps those that it has. Keys and limits that are written in
// the configuration itself stay as they were. It may be called from several goroutines.
func (c *Config) ReadKeys() ([]Key, []Problem) {
	if c.keys == nil {
		return slices.Clone(c.Auth.Keys), nil
	}
	return c.keys.read()
}

func (k *keyReader) read() ([]Key, []Problem) {
	d := newDecoder(k.name, k.opts)
	d.literal = k.literal
	entries := make([]keyEntry, 0, len(k.kept))
	for _, e := range k.kept {
		at := value{d: d, node: &yaml.Node{Kind: yaml.ScalarNode, Line: e.line}, path: e.path}
		if e.file != "" {
			keyAt := value{d: d, node: at.node, path: e.path + ".key.file", hidden: true}
			data, ok := keyAt.file(e.file)
			if !ok {
				continue
			}
			if e.key.Hash, ok = hashKey(keyAt, trimSecret(data)); !ok {
				continue
			}
		}
		limits := value{d: d, node: &yaml.Node{Kind: yaml.ScalarNode, Line: e.limits}, path: e.path + ".limits"}
		entries = append(entries, keyEntry{key: e.key, at: at, limits: limits, file: e.file})
	}
	keys := k.join(d, entries)
	if d.errors() > 0 {
		return nil, d.finish()
	}
	if keys == nil {
		keys = []Key{} // nil would say that something is wrong
	}
	return keys, d.finish()
}

// join adds the keys of auth.keys_file to those of the configuration and checks them together.
func (k *keyReader) join(d *decoder, entries []keyEntry) []Key {
	section := value{d: d, node: &yaml.Node{Kind: yaml.ScalarNode, Line: k.line}, path: "auth"}
	before := d.errors()
	if k.file != "" {
		entries = append(slices.Clip(entries), k.readFile(d)...)
	}
	k.watch(d)
	k.check(entries)
	switch {
	case len(entries) > 0 || !k.needed || d.errors() > before:
	case k.literal:
		section.path = ""
		section.problem("no key is set, so nobody could call: put keys into the environment variable %s"+
			" (`dragoman key` makes one), or write -auth none, which lets everybody in who reaches the listener", keysVariable)
	default:
		more := ""
		if _, set := k.opts.Getenv(keysVariable); set {
			more = "; " + keysVariable + " is read for a sidecar without a file only"
		}
		section.problem("holds no key, so nobody could call: run `dragoman key` and paste the lines that it prints below auth.keys, "+
			"or write auth.mode: none, which lets everybody in who reaches the listener%s", more)
	}
	keys := make([]Key, 0, len(entries))
	for _, e := range entries {
		keys = append(keys, e.key)
	}
	if len(keys) == 0 {
		return nil
	}
	return keys
}

// watch notes which files the keys are in now. A file that is not there yet is one of them; and as long as the list of
// keys cannot be read, so are those that were in it, which may be what is wrong.
func (k *keyReader) watch(d *decoder) {
	var files []string
	if k.file != "" {
		files = append(files, k.file)
	}
	for _, e := range k.kept {
		if e.file != "" {
			files = append(files, e.file)
		}
	}
	for _, sub := range d.subs {
		files = append(files, sub.keyFiles...)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if d.errors() > 0 {
		files = append(files, k.watched...)
	}
	slices.Sort(files)
	k.watched = slices.Compact(files)
}

// readFile reads the entries of auth.keys_file. Its problems have its own name and lines.
func (k *keyReader) readFile(d *decoder) []keyEntry {
	at := value{d: d, node: &yaml.Node{Kind: yaml.ScalarNode, Line: k.fileLine}, path: "auth.keys_file"}
	data, ok := at.file(k.file)
	if !ok {
		return nil
	}
	sub := newDecoder(k.fileName, k.opts)
	sub.secret = true
	sub.empty = "is empty: write a list of keys, or [] for none"
	var entries []keyEntry
	if root := sub.parseYAML(data); root != nil {
		v := value{d: sub, node: root, hidden: true}
		if root.Kind == yaml.MappingNode {
			v.mapping(fields{"keys": func(v value) { entries = readKeyList(v) }})
		} else {
			entries = readKeyList(v)
		}
	}
	d.subs = append(d.subs, sub)
	return entries
}

// readKeyList reads a list of keys.
func readKeyList(v value) (entries []keyEntry) {
	if v.isNull() {
		return nil // all its lines are commented out
	}
	v.hidden = true // people write keys into places where they do not belong
	v.list("keys, each with name and hash or key", func(_ int, at value) {
		if e, ok := readKey(at); ok {
			entries = append(entries, e)
		}
	})
	return entries
}

// shownAgain lets what stands in a value be quoted, unless the whole file is a secret.
func (v value) shownAgain() value {
	v.hidden = v.d.secret
	return v
}

func readKey(v value) (e keyEntry, ok bool) {
	before := v.d.count[Error]
	e.at, e.limits = v, v
	written := v.mapping(fields{
		"name": func(v value) { e.key.Name = readKeyName(v.shownAgain()) },
		"hash": func(v value) { e.key.Hash = readHash(v) },
		"key": func(v value) {
			var text string
			text, file, ok := readSecret(v)
			if ok {
				e.key.Hash, _ = hashKey(v, text)
			}
			if e.file = file; file != "" {
				v.d.keyFiles = append(v.d.keyFiles, file)
			}
		},
		"agents":   func(v value) { e.key.Agents = readKeyAgents(v.shownAgain()) },
		"expires":  func(v value) { e.key.Expires = readTime(v.shownAgain()) },
		"disabled": func(v value) { boolean(&e.key.Disabled)(v.shownAgain()) },
		"limits": func(v value) {
			var l Limits
			e.limits = v
			l.read(v.shownAgain())
			if !l.IsZero() {
				e.key.Limits = &l
			}
		},
	})
	if written == nil {
		return e, false
	}
	if _, ok := written["name"]; !ok {
		v.problem("name is required: who calls, in logs and limits")
	}
	_, hash := written["hash"]
	_, key := written["key"]
	if hash == key && v.d.count[Error] == before {
		v.problem("wants exactly one of hash: sha256:… (`dragoman key` prints that line) or key: with {env: NAME}, {file: /path} or {value: text}")
	}
	if v.d.count[Error] > before {
		return e, false
	}
	if _, ok := written["expires"]; ok && !e.key.Expires.After(time.Now()) {
		written["expires"].warn("has passed: nobody can use this key")
	}
	return e, true
}

// readKeyName reads the name of a key.
func readKeyName(v value) string {
	text, ok := v.text("the name of who calls")
	if !ok {
		return ""
	}
	problem := KeyNameProblem(text)
	if problem != "" {
		v.problem("%s", problem)
		return ""
	}
	return text
}

// KeyNameProblem is what is wrong with the name of a key, or nothing. It does not quote it.
func KeyNameProblem(text string) string {
	switch {
	case text == "":
		return "is empty: write who calls"
	case strings.Contains(text, "|"):
		return "holds a |, which stands between the issuer and the subject of a token: write another name"
	}
	return checkWord(text, maxName)
}

// readHash reads the hash of a key.
func readHash(v value) (hash [32]byte) {
	const want = "wants sha256: and 64 hexadecimal digits, as `dragoman key` prints them"
	text, ok := v.text("sha256: and 64 hexadecimal digits")
	if !ok {
		return hash
	}
	hash, ok = parseHash(text)
	switch {
	case !ok:
		v.problem(want)
	case hash == [32]byte{} || hash == sha256.Sum256(nil):
		v.problem("is the hash of no key: run `dragoman key`, or `dragoman key -hash` for a key that exists")
	}
	return hash
}

func parseHash(text string) (hash [32]byte, ok bool) {
	digits, ok := strings.CutPrefix(text, "sha256:")
	if !ok || len(digits) != hex.EncodedLen(len(hash)) {
		return hash, false
	}
	_, err := hex.Decode(hash[:], []byte(digits))
	return hash, err == nil
}

// hashKey checks a key and hashes it.
func hashKey(v value, text string) (hash [32]byte, ok bool) {
	if problem := KeyProblem(text); problem != "" {
		v.problem("%s", problem)
		return hash, false
	}
	v.warnOfBearer(text)
	return sha256.Sum256([]byte(text)), true
}

// warnOfBearer tells of a key that is none of what RFC 9110 calls token68.
func (v value) warnOfBearer(text string) {
	if strings.ContainsFunc(strings.TrimRight(text, "="), func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("-._~+/", r)
	}) {
		v.warn("holds a character that Authorization: Bearer has no place for: callers can present the key as x-api-key only")
	}
}

// KeyProblem is what is wrong with a key that callers are to present, or nothing. It does not quote it.
func KeyProblem(text string) string {
	switch {
	case text == "":
		return "is empty: write a key of at least 20 bytes; `dragoman key` makes one"
	case len(text) < minKey:
		return "is shorter than 20 bytes, which can be guessed: `dragoman key` makes a good one"
	case len(text) > maxSecret:
		return fmt.Sprintf("is longer than %v", Size(maxSecret))
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return "holds a space, a line break or another character that is not visible ASCII, which no header carries: `dragoman key` makes a good one"
	}
	return ""
}

// readKeyAgents reads the names and patterns of the agents that a key may call.
func readKeyAgents(v value) (agents []string) {
	if v.node.Kind == yaml.SequenceNode && len(v.node.Content) == 0 {
		v.problem("is empty: leave it out for all agents, or write disabled: true for a key that may call none")
		return nil
	}
	v.list("agents' names and patterns such as [support, \"research-*\"]", func(_ int, v value) {
		text, ok := v.text("an agent's name, or a pattern with a star")
		if !ok {
			return
		}
		problem := checkWord(text, maxAlias)
		if text == "" {
			problem = "is empty"
		}
		if problem != "" {
			v.problem("%s", problem)
			return
		}
		agents = append(agents, text)
	})
	return agents
}

// readTime reads a point in time.
func readTime(v value) time.Time {
	const want = "a time such as 2027-01-01T00:00:00Z, or a date such as 2027-01-01"
	text, ok := v.text(want)
	if !ok {
		return time.Time{}
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil && !t.IsZero() {
			return t.UTC()
		}
	}
	v.problem("wants %s, not %s", want, v.shown())
	return time.Time{}
}

// check holds the rules for all keys together.
func (k *keyReader) check(entries []keyEntry) {
	named := make(map[string]keyEntry, len(entries))
	hashed := make(map[[32]byte]keyEntry, len(entries))
	demo, _ := parseHash("sha256:" + demoKeyHash)
	for _, e := range entries {
		if first, again := hashed[e.key.Hash]; again {
			e.at.problem("is the same key as %s: give every caller one of its own", first.where(e))
		} else {
			hashed[e.key.Hash] = e
		}
		if e.key.Hash == demo && k.reachable {
			e.at.problem("is the published demo key, which everybody knows, on a listener that other hosts reach: " +
				"take it out and run `dragoman key` for one of your own")
		}
		if first, again := named[e.key.Name]; !again {
			named[e.key.Name] = e
		} else if !sameLimits(first.key.Limits, e.key.Limits) {
			e.limits.problem("differs from the limits of %s, which has the same name: keys of one name share their limits, so write the same for both",
				first.where(e))
		}
		k.warnOfAgents(e)
	}
}

// where is where an entry is, told from another one.
func (e keyEntry) where(from keyEntry) string {
	path := strings.TrimPrefix(e.at.path, ".")
	if e.at.d.file != from.at.d.file {
		path = e.at.d.file + ": " + path
	}
	if e.at.node.Line > 0 {
		path = fmt.Sprintf("%s (line %d)", path, e.at.node.Line)
	}
	return path
}

func sameLimits(a, b *Limits) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// warnOfAgents tells of patterns that mean no agent.
func (k *keyReader) warnOfAgents(e keyEntry) {
	if k.agents == nil {
		return
	}
	for i, pattern := range e.key.Agents {
		if slices.ContainsFunc(k.agents, func(name string) bool { return Match(pattern, name) }) {
			continue
		}
		at := e.at
		at.path = fmt.Sprintf("%s.agents[%d]", at.path, i)
		at.warn("is the name of no agent, nor a pattern of one: write names of agents, not their aliases")
	}
}
