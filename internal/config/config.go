package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxLookup is the longest word that [Config.Lookup] looks at.
const maxLookup = 1024

// Config is a whole configuration. It is read-only once it is loaded: a reload builds a new one.
type Config struct {
	// Server is the listener that clients talk to. See [Server].
	Server Server

	// Admin is the listener for whoever runs the proxy. See [Admin].
	Admin Admin

	// Log says what is logged and how. See [Log].
	Log Log

	// Agents are the backends, in the order of the file. At least one is required; nothing else in the file is.
	Agents []Agent

	// DefaultAgent names the agent that serves requests which name none. Default: the only agent where there is one,
	// else none, and then such a request is an error. It never serves a request that names an agent which does not exist.
	DefaultAgent string

	// Translate holds what applies to the translation for every agent. See [Translate].
	Translate Translate

	// Auth says who may call. Default: nobody, so that it must be written. See [Auth].
	Auth Auth

	// Limits say how often callers may call. Default: as often as they want. See [RateLimits].
	Limits RateLimits

	// Redis is the server that replicas share counts and conversations in. Default: none. See [Redis].
	Redis Redis

	// State says where conversations are kept. See [State].
	State State

	keys *keyReader
}

// Log says what is logged and how.
type Log struct {
	// Level is the least severe level that is written: debug, info, warn or error. Default: info. The access log is
	// written at info.
	Level string

	// Format is json, one object a line for machines, or console, for people at a terminal. Default: json.
	Format string

	// Access turns the access log on: one line a request, never a body, never a key. Default: true. Turn it off where
	// something in front of Dragoman writes one already.
	Access bool
}

// Translate holds what applies to the translation for every agent.
type Translate struct {
	// Strict makes a request that would lose something in translation a 400 which names every field, before the backend
	// runs. Default: false, and the loss is told in the Dragoman-Dropped header. Turn it on where a dropped field must
	// not pass unseen; a client can also ask for it, one request at a time, with Dragoman-Strict: true.
	Strict bool
}

// Default is the configuration of an empty file, which has no agents yet and is therefore not valid by itself.
func Default() Config {
	return Config{
		Server: DefaultServer(),
		Admin:  DefaultAdmin(),
		Log:    Log{Level: "info", Format: "json", Access: true},
		Auth:   DefaultAuth(),
		Limits: DefaultRateLimits(),
		Redis:  DefaultRedis(),
		State:  DefaultState(),
	}
}

// Lookup is the agent that a client's word means, or nil. A name comes first, then an exact alias, then the pattern
// with the most characters besides its stars; of equals the first in the file. A word of more than a kilobyte means
// nothing, so that what a client sends cannot make matching slow.
func (c *Config) Lookup(word string) *Agent {
	return c.LookupWhere(word, func(*Agent) bool { return true })
}

// LookupWhere is Lookup among the agents for which exists is true, as if there were no others.
func (c *Config) LookupWhere(word string, exists func(*Agent) bool) *Agent {
	if len(word) > maxLookup {
		return nil
	}
	for i := range c.Agents {
		if c.Agents[i].Name == word && exists(&c.Agents[i]) {
			return &c.Agents[i]
		}
	}
	best, weight := -1, -1
	for i := range c.Agents {
		for _, alias := range c.Agents[i].Aliases {
			exact := alias == word
			w := patternWeight(alias)
			if !exact && (w <= weight || !Match(alias, word)) || !exists(&c.Agents[i]) {
				continue
			}
			if exact {
				return &c.Agents[i]
			}
			best, weight = i, w
		}
	}
	if best < 0 {
		return nil
	}
	return &c.Agents[best]
}

// Default is the agent for requests that name none, or nil where there is no such agent.
func (c *Config) Default() *Agent {
	if c.DefaultAgent == "" {
		return nil
	}
	for i := range c.Agents {
		if c.Agents[i].Name == c.DefaultAgent {
			return &c.Agents[i]
		}
	}
	return nil
}

// read takes the whole file over the defaults.
func (c *Config) read(v value) {
	var listed *agentList
	var server, limits, redis, stored map[string]value
	auth := authRead{at: v.child("auth", v.node)}
	written := v.mapping(fields{
		"server":        func(v value) { server = c.Server.read(v) },
		"admin":         c.Admin.read,
		"log":           c.Log.read,
		"agents":        func(v value) { listed = readAgents(v) },
		"default_agent": word(&c.DefaultAgent, maxName),
		"translate": func(v value) {
			v.mapping(fields{"strict": boolean(&c.Translate.Strict)})
		},
		"auth":   func(v value) { c.Auth.read(v, &auth) },
		"limits": func(v value) { limits = c.Limits.read(v) },
		"state":  func(v value) { stored = c.State.read(v) },
		"redis":  func(v value) { redis = c.Redis.read(v) },
	})
	if written == nil {
		return
	}
	c.readAgents(v, written, listed)
	listen, ok := server["listen"]
	if !ok {
		listen = v.child("server", v.node).child("listen", v.node)
	}
	if v.d.opts.Listen != "" {
		listen = c.moveListener(v.d)
	}
	if v.d.literal {
		before := v.d.count[Error]
		auth.keys = readVariable(v.d)
		auth.broken = auth.broken || v.d.count[Error] > before
	}
	c.checkAuth(&auth, listen, listed.known())
	c.checkLimits(limits, written["redis"], redis)
	c.checkState(stored, redis)
}

// moveListener takes the listener of the command line, and returns where it is written.
func (c *Config) moveListener(d *decoder) value {
	at := value{d: d, node: &yaml.Node{Kind: yaml.ScalarNode}, path: "-listen"}
	listen, problem := parseListen(d.opts.Listen)
	if problem != "" {
		at.problem("%s", problem)
	} else {
		c.Server.Listen = listen
	}
	return at
}

// readAgents takes the agents, once everything else is read.
func (c *Config) readAgents(v value, written map[string]value, listed *agentList) {
	if listed == nil {
		if _, ok := written["agents"]; !ok {
			v.d.add(Error, v.node.Line, "agents", "is required: write at least one agent with its name, protocol and url")
		}
		return
	}
	c.Agents = listed.agents
	listed.checkNames()
	listed.checkFallbacks()
	if len(c.Agents) == 1 && !listed.aliased[0] {
		c.Agents[0].Aliases = []string{"*"}
	}
	if len(c.Agents) == 1 && c.DefaultAgent == "" {
		c.DefaultAgent = c.Agents[0].Name
	}
	if at, ok := written["default_agent"]; ok && c.DefaultAgent != "" {
		listed.checkDefault(at, c)
	}
	listed.warn()
}

// checkDefault reports a default agent that does not exist.
func (l *agentList) checkDefault(at value, c *Config) {
	if c.Default() != nil || l.broken {
		return
	}
	if a := c.Lookup(c.DefaultAgent); a != nil && slices.Contains(a.Aliases, c.DefaultAgent) {
		at.problem("is an alias: write the name of its agent")
		return
	}
	var names []string
	for i, v := range l.names {
		// A name that came from the environment is not quoted.
		if v.node != nil && v.node.Value == l.agents[i].Name {
			names = append(names, v.node.Value)
		}
	}
	if len(names) == 0 || len(names) > 10 {
		at.problem("names no agent: write the name of one, or leave it out")
		return
	}
	at.problem("names no agent: write one of %s, or leave it out", strings.Join(names, ", "))
}

func (l *Log) read(v value) {
	v.mapping(fields{
		"level":  oneOf(&l.Level, "debug", "info", "warn", "error"),
		"format": oneOf(&l.Format, "json", "console"),
		"access": boolean(&l.Access),
	})
}
