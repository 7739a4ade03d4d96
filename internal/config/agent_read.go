package config

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	maxName  = 64
	maxAlias = 256
)

var agentName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// agentList is the list of agents while it is read: the agents, and where they are in the file.
type agentList struct {
	agents    []Agent
	names     []value   // where each name is; its node is nil where there is none
	aliases   [][]value // where each alias is
	aliased   []bool    // whether aliases are written at all
	models    []value   // where to warn about the model
	fallbacks [][]value // where each fallback is
	broken    bool      // at least one name could not be read
}

// readAgents reads the list of agents; it is nil where there is none.
func readAgents(v value) *agentList {
	if v.isNull() {
		v.problem("is required: write at least one agent with its name, protocol and url")
		return nil
	}
	l := &agentList{}
	if !v.list("agents", func(_ int, at value) { l.read(at) }) {
		return nil
	}
	if len(l.agents) == 0 {
		v.problem("is required: write at least one agent with its name, protocol and url")
		return nil
	}
	return l
}

// read reads one agent.
func (l *agentList) read(v value) {
	a := DefaultAgent()
	l.names = append(l.names, value{})
	l.aliases = append(l.aliases, nil)
	l.aliased = append(l.aliased, false)
	l.models = append(l.models, v)
	l.fallbacks = append(l.fallbacks, nil)
	i := len(l.names) - 1
	defer func() { l.agents = append(l.agents, a) }()

	var tlsWritten map[string]value
	var options []option
	var defaults, balance map[string]value
	w := v.mapping(fields{
		"name": func(v value) {
			a.Name = readName(v)
			l.names[i] = v
		},
		"aliases": func(v value) {
			l.aliased[i] = true
			a.Aliases, l.aliases[i] = readAliases(v)
		},
		"description":      sentence(&a.Description),
		"protocol":         oneOf(&a.Protocol, v.d.opts.Protocols...),
		"url":              func(value) {}, // below: what it may be depends on other settings
		"path":             a.readPath,
		"model":            word(&a.Model, maxAlias),
		"credential":       a.Credential.read,
		"headers":          headers(&a.Headers),
		"forward_headers":  headerNames(&a.ForwardHeaders),
		"tls":              func(v value) { tlsWritten = a.TLS.read(v) },
		"timeouts":         a.Timeouts.read,
		"keep_alive":       spanOrZero(&a.KeepAlive),
		"heartbeat":        a.Heartbeat.read,
		"allow_link_local": boolean(&a.AllowLinkLocal),
		"strict":           boolean(&a.Strict),
		"defaults":         func(v value) { defaults = a.Defaults.read(v) },
		"options":          func(v value) { options = readOptions(v) },
		"urls":             func(value) {},
		"balance":          func(v value) { balance = a.Balance.read(v) },
		"health":           a.Health.read,
		"retry":            a.Retry.read,
		"read_ahead":       size(&a.ReadAhead, 64*KiB, GiB),
		"max_input_tokens": tokens(&a.MaxInputTokens),
		"limits":           a.Limits.read,
		"fallback":         func(v value) { a.Fallback, l.fallbacks[i] = readFallback(v) },
	})
	if w == nil {
		l.broken = true
		return
	}
	for _, key := range []string{"name", "protocol", "url"} {
		_, ok := w[key]
		if _, several := w["urls"]; key == "url" && several {
			ok = true
		}
		if !ok {
			v.problem("%s", map[string]string{
				"name":     "name is required: what clients call the agent by",
				"protocol": "protocol is required: one of " + strings.Join(v.d.opts.Protocols, ", "),
				"url":      "url is required: http://host:port, https://host:port, unix:/path or demo:protocol (or urls, a list of them)",
			}[key])
		}
	}
	if a.Name == "" {
		l.broken = true
	}
	a.readURLs(w)
	if at, ok := w["path"]; ok && at.node.Kind == yaml.SequenceNode && a.Protocol != "" && a.Protocol != "cycls" {
		at.problem("wants one path: a list, to be probed, is for protocol cycls only")
	}
	if at, ok := w["tls"]; ok {
		a.checkTLS(at, tlsWritten)
	}
	if at, ok := w["model"]; ok {
		l.models[i] = at
	}
	if at, ok := w["credential"]; ok {
		a.checkCredential(at, w["headers"])
	}
	if at, ok := balance["max_concurrent"]; ok && a.Limits.Concurrent > 0 && a.Balance.MaxConcurrent >= a.Limits.Concurrent {
		at.warn("is never reached: limits.concurrent of this agent lets no more than %d requests through to all its urls", a.Limits.Concurrent)
	}
	if at, ok := w["fallback"]; ok && len(a.Fallback) > 0 && (a.Retry.Attempts == 0 || a.Retry.Budget == 0) {
		at.warn("is asked only while no url of this agent may be asked at all, and never when a request failed: retry allows no attempts")
	}
	if at, ok := w["read_ahead"]; ok && a.Protocol != "" && a.Protocol != "cycls" {
		at.warn("is for protocol cycls only: other servers wait for a slow reader")
	}
	a.checkOptions(options)
	a.checkDefaults(defaults)
}

// readName reads an agent's name; it is empty where that is wrong.
func readName(v value) string {
	text, ok := v.text("the agent's name")
	if !ok {
		return ""
	}
	if !agentName.MatchString(text) || text == "." || text == ".." {
		v.problem("wants 1 to %d letters, digits, dots, underscores and hyphens, not %s", maxName, v.shown())
		return ""
	}
	return text
}

// readAliases reads aliases and where each of them is.
func readAliases(v value) (aliases []string, at []value) {
	v.list("names and patterns such as [gpt-4o, \"support-*\"], or [] for none", func(_ int, v value) {
		text, ok := v.text("a name, or a pattern with a star")
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
		aliases, at = append(aliases, text), append(at, v)
	})
	return aliases, at
}

// readPath reads one path or several.
func (a *Agent) readPath(v value) {
	read := func(v value) {
		text, ok := v.text("a path such as /v1/chat/completions")
		if !ok {
			return
		}
		if text == "" && v.node.Kind == yaml.ScalarNode && !strings.HasSuffix(v.path, "]") {
			return // the protocol's own
		}
		if problem := checkPath(text); problem != "" {
			v.problem("%s", problem)
			return
		}
		a.Path = append(a.Path, text)
	}
	if v.node.Kind == yaml.SequenceNode {
		v.list("paths", func(_ int, v value) { read(v) })
		return
	}
	read(v)
}

// maxURLs is how many replicas an agent may have.
const maxURLs = 64

// readURLs reads url, or urls.
func (a *Agent) readURLs(w map[string]value) {
	one, ok := w["url"]
	list, several := w["urls"]
	switch {
	case ok && several:
		list.problem("excludes url: write one or the other")
		return
	case ok:
		a.readURL(one)
		return
	case !several:
		return
	}
	if !list.list("urls", func(_ int, at value) { a.readURL(at) }) {
		return
	}
	switch n := len(list.node.Content); {
	case n == 0:
		list.problem("is empty: write at least one url")
	case n > maxURLs:
		list.problem("holds %d urls: at most %d are balanced; put a load balancer in front of more", n, maxURLs)
	}
}

func (a *Agent) readURL(v value) {
	text, ok := v.text("a url")
	if !ok {
		return
	}
	t, problem := parseTarget(text, a.AllowLinkLocal, v.d.opts.Protocols)
	if problem != "" {
		v.problem("%s", problem)
		return
	}
	if t.Scheme == "demo" && a.Protocol != "" && t.Demo != a.Protocol {
		v.problem("is a demo agent of another protocol: write demo: and the agent's own protocol")
		return
	}
	if slices.Contains(a.URLs, t) {
		v.problem("is written twice: leave one out")
		return
	}
	a.URLs = append(a.URLs, t)
	// The habit of OpenAI's base urls.
	if strings.HasSuffix(t.BasePath, "/v1") && len(a.Path) == 0 && slices.Contains([]string{"chat", "responses", "ticos", "swarms"}, a.Protocol) {
		v.warn("ends in /v1, and so the backend is asked for /v1/v1/…: leave /v1 out here, or set path")
	}
}

func (a *Agent) checkTLS(v value, written map[string]value) {
	if a.TLS == (TLS{}) || len(a.URLs) == 0 {
		return
	}
	if slices.ContainsFunc(a.URLs, func(t Target) bool { return t.Scheme != "https" }) {
		if len(a.URLs) > 1 {
			v.problem("is for https:// only, which not all urls are: change those, or leave tls out")
			return
		}
		v.problem("is for https:// only, which the url is not: change the url, or leave tls out")
		return
	}
	a.TLS.build(v, written)
}

func (a *Agent) checkCredential(v, headers value) {
	if a.Credential.IsZero() && !a.Credential.Forward {
		return
	}
	for _, h := range a.Headers {
		if a.Credential.Header != "" && strings.EqualFold(h.Name, a.Credential.Header) {
			headers.problem("sets the header of the credential: leave one out")
		}
	}
	if slices.ContainsFunc(a.URLs, func(t Target) bool { return t.Scheme == "http" && !t.Loopback() }) {
		v.warn("goes over the network unencrypted: use an https:// url")
	}
}

func (t *AgentTimeouts) read(v value) {
	v.mapping(fields{
		"connect":    span(&t.Connect),
		"first_byte": span(&t.FirstByte),
		"idle":       span(&t.Idle),
		"total":      span(&t.Total),
	})
}

func (h *Heartbeat) read(v value) {
	v.mapping(fields{
		"stream":            spanOrZero(&h.Stream),
		"before_first_byte": heartbeat(&h.BeforeFirstByte),
		"json":              heartbeat(&h.JSON),
	})
}

// heartbeat reads a time between heartbeats. A very short one is a slip of the unit.
func heartbeat(to *time.Duration) func(value) {
	return func(v value) {
		d, ok := v.duration()
		if ok && d > 0 && d < 100*time.Millisecond {
			v.problem("must be at least 100ms, or 0s for none")
			return
		}
		if ok {
			*to = d
		}
	}
}

// read reads the section and returns what is written.
func (b *Balance) read(v value) map[string]value {
	return v.mapping(fields{
		"max_concurrent": integer(&b.MaxConcurrent, 0, 1_000_000),
		"failures":       integer(&b.Failures, 0, 1000),
		"error_rate":     share(&b.ErrorRate),
		"pause":          boundedSpan(&b.Pause, 100*time.Millisecond, time.Hour),
		"slow_start":     boundedSpan(&b.SlowStart, 0, time.Hour),
	})
}

func (h *Health) read(v value) {
	w := v.mapping(fields{
		"interval": spanOrZero(&h.Interval),
		"timeout":  boundedSpan(&h.Timeout, 10*time.Millisecond, time.Minute),
		"path":     h.readPath,
		"ready":    boolean(&h.Ready),
	})
	at, ok := w["interval"]
	switch {
	case ok && h.Interval > 0 && h.Interval < 100*time.Millisecond:
		at.problem("must be at least 100ms, or 0s for no checks")
	case ok && h.Interval > 0 && h.Interval < h.Timeout:
		at.problem("is shorter than the timeout of a check, %v: make it longer, or set timeout too", h.Timeout)
	}
	if at, ok := w["path"]; ok && h.Path != "" && h.Interval == 0 {
		at.warn("is never asked: set interval too")
	}
}

func (h *Health) readPath(v value) {
	text, ok := v.text("a path such as /health")
	if !ok || text == "" {
		return
	}
	if problem := checkPath(text); problem != "" {
		v.problem("%s", problem)
		return
	}
	h.Path = text
}

func (r *Retry) read(v value) {
	v.mapping(fields{
		"idempotent": boolean(&r.Idempotent),
		"attempts":   integer(&r.Attempts, 0, 10),
		"budget":     share(&r.Budget),
	})
}

// readFallback reads names of agents, and where each is.
func readFallback(v value) (names []string, at []value) {
	if v.isNull() {
		return nil, nil
	}
	v.list("names of agents", func(_ int, v value) {
		name := readName(v)
		switch {
		case name == "":
		case slices.Contains(names, name):
			v.problem("is written twice: leave one out")
		default:
			names, at = append(names, name), append(at, v)
		}
	})
	return names, at
}

// checkFallbacks reports fallbacks that are no other agents.
func (l *agentList) checkFallbacks() {
	for i, a := range l.agents {
		for j, name := range a.Fallback {
			at := l.fallbacks[i][j]
			k := slices.IndexFunc(l.agents, func(b Agent) bool { return b.Name == name })
			switch {
			case name == a.Name:
				at.problem("is the agent itself: name another one")
			case k < 0 && !l.broken:
				at.problem("names no agent: write the name of one, not an alias")
			case k >= 0 && l.agents[k].Credential.Forward && !a.Credential.Forward:
				at.warn("is an agent that checks its users itself, by the client's Authorization, which this agent's clients need not send")
			}
		}
	}
}

// read reads the defaults and returns where those that are written are.
func (d *Defaults) read(v value) map[string]value {
	return v.mapping(fields{
		"system_prompt": sentence(&d.SystemPrompt),
		"max_tokens":    integer(&d.MaxTokens, 0, math.MaxInt32),
		"temperature":   temperature(&d.Temperature),
	})
}

// checkDefaults warns of defaults that the protocol has no word for.
func (a *Agent) checkDefaults(written map[string]value) {
	check := func(name string, set bool) {
		at, ok := written[name]
		if !ok || !set || at.d.opts.DefaultCheck == nil {
			return
		}
		if err := at.d.opts.DefaultCheck(a.Protocol, name); err != nil {
			at.warn("%s", err)
		}
	}
	check("system_prompt", a.Defaults.SystemPrompt != "")
	check("max_tokens", a.Defaults.MaxTokens > 0)
	check("temperature", a.Defaults.Temperature != nil)
}

// option is one of a protocol's switches, and where it is.
type option struct {
	key, text string
	at        value
}

func readOptions(v value) (options []option) {
	v.entries(func(key string, at value) {
		text, ok := at.scalar("text, a number, or true or false")
		if !ok {
			return
		}
		if problem := checkWord(text, 4096); problem != "" {
			at.problem("%s", problem)
			return
		}
		if at.node.ShortTag() == "!!bool" {
			text = strings.ToLower(text) // True and TRUE are true
		}
		options = append(options, option{key: key, text: text, at: at})
	})
	return options
}

// checkOptions has the protocol judge its own switches.
func (a *Agent) checkOptions(options []option) {
	if a.Protocol == "" {
		return
	}
	for _, o := range options {
		check := o.at.d.opts.OptionCheck
		if check == nil {
			o.at.problem("unknown option: %s has none", a.Protocol)
			continue
		}
		if err := check(a.Protocol, o.key, o.text); err != nil {
			o.at.problem("%s", o.complaint(err, check, a.Protocol))
			continue
		}
		if a.Options == nil {
			a.Options = make(map[string]string)
		}
		a.Options[o.key] = o.text
	}
}

// complaint is what a protocol says about a value. Of one that was expanded it is what the protocol says about the text in
// the file, so that nothing from the environment is quoted.
func (o option) complaint(err error, check func(protocol, key, value string) error, protocol string) string {
	raw := o.at.node.Value
	if raw == o.text || !strings.Contains(raw, "$") {
		return err.Error()
	}
	if err := check(protocol, o.key, raw); err != nil {
		return err.Error()
	}
	return "expands to a value that this option does not take"
}

// checkNames reports words that would mean two agents.
func (l *agentList) checkNames() {
	taken := make(map[string]value)
	claim := func(word string, at value) {
		first, again := taken[word]
		if !again {
			taken[word] = at
			return
		}
		where := first.path
		if first.node.Line > 0 {
			where = fmt.Sprintf("%s (line %d)", where, first.node.Line)
		}
		at.problem("is the same as %s: every name and alias means one agent", where)
	}
	for i, a := range l.agents {
		if a.Name != "" {
			claim(a.Name, l.names[i])
		}
	}
	for i, a := range l.agents {
		for j, alias := range a.Aliases {
			if j < len(l.aliases[i]) {
				claim(alias, l.aliases[i][j])
			}
		}
	}
}

// warn tells of models that are probably missing: where clients can only know the agent's name, a backend that needs a
// model would be told that name. An agent for every word ("*") is meant to pass the client's own word on.
func (l *agentList) warn() {
	for i, a := range l.agents {
		needs := slices.Contains([]string{"chat", "responses", "swarms"}, a.Protocol)
		if needs && a.Model == "" && a.Name != "" && len(a.URLs) > 0 && a.URLs[0].Scheme != "demo" && !slices.Contains(a.Aliases, "*") {
			l.models[i].warn("model is not set: a client that calls the agent by its name has the backend asked for a model of that name")
		}
	}
}

// known is the names of all agents; nil where some are not known.
func (l *agentList) known() []string {
	if l == nil || l.broken {
		return nil
	}
	names := make([]string, len(l.agents))
	for i := range l.agents {
		names[i] = l.agents[i].Name
	}
	return names
}
