package config

import "time"

// Auth says who may call.
type Auth struct {
	// Mode is keys, which lets callers with a key or a token in, or none, which lets everybody in. Default: keys, and
	// without a key and without jwt the proxy refuses to start. With none the listener must be a loopback address or a
	// unix socket, or AllowUnauthenticated must be set.
	Mode string

	// AllowUnauthenticated permits mode none on a listener that others can reach. Default: false, because an open proxy
	// spends the backends' credentials for whoever finds it. Set it where something in front checks every caller.
	AllowUnauthenticated bool

	// Keys are the keys that callers may present, those of KeysFile behind those of the file itself. Default: none.
	// [Config.ReadKeys] reads them again.
	Keys []Key

	// KeysFile is the absolute path of a YAML file with further keys: a list of entries as in auth.keys, or a mapping
	// whose keys is that list. Default: none. It is read again when it changes: take it for a mounted Kubernetes Secret.
	KeysFile string

	// JWT accepts JSON Web Tokens as bearers. Default: nil, none. See [JWT].
	JWT *JWT
}

// Key is one key that callers present as Authorization: Bearer or as x-api-key.
type Key struct {
	// Name is who calls, in logs, limits and conversations. Required; at most 64 printable characters. Two keys of one
	// name are for rotation: they share limits and conversations.
	Name string

	// Hash is the SHA-256 of the key. In the file it is either hash: sha256:… (`dragoman key` prints the line) or key: with
	// one of {env: NAME}, {file: /path} or {value: text}, of which only the hash is kept. A key has 20 bytes to 8KiB of
	// visible ASCII. One from a file is read again when that changes.
	Hash [32]byte

	// Agents are names of agents, or patterns in which a star stands for any run of characters, that the key may call and
	// see. Default: nil, all of them.
	Agents []string

	// Expires is when the key ends. In the file it is a time such as 2027-01-01T00:00:00Z, or a date, which begins at
	// midnight UTC. Default: never.
	Expires time.Time

	// Disabled keeps the key from being used. Default: false. Set it to lock a caller out without losing its entry.
	Disabled bool

	// Limits are how often the key may call; they stand in place of limits.default as a whole. Default: nil, which means
	// limits.default. Keys of one name have the same and share what they allow.
	Limits *Limits
}

// DefaultAuth is the authentication of an empty file, which lets nobody in.
func DefaultAuth() Auth { return Auth{Mode: "keys"} }

// Forwards reports whether some agent has credential: {forward: true}. Then Authorization belongs to the backends, and
// keys are presented as x-api-key alone.
func (c *Config) Forwards() bool {
	for i := range c.Agents {
		if c.Agents[i].Credential.Forward {
			return true
		}
	}
	return false
}

// Open reports whether everybody who reaches the listener may call.
func (c *Config) Open() bool { return c.Auth.Mode == "none" }

// authRead is the section while the whole file is read.
type authRead struct {
	at      value            // the section, or the file where there is none
	written map[string]value // what is written in it
	keys    []keyEntry       // of auth.keys
	broken  bool             // something in it could not be read
}

// read reads the section; what depends on other sections is checked by checkAuth.
func (a *Auth) read(v value, r *authRead) {
	before := v.d.count[Error]
	r.at = v
	r.written = v.mapping(fields{
		"mode":                  oneOf(&a.Mode, "keys", "none"),
		"allow_unauthenticated": boolean(&a.AllowUnauthenticated),
		"keys":                  func(v value) { r.keys = readKeyList(v) },
		"keys_file":             filePath(&a.KeysFile, "keys.yaml"),
		"jwt":                   func(v value) { a.JWT = readJWT(v) },
	})
	r.broken = v.d.count[Error] > before
}

// place is where a setting is written, or the section.
func (r *authRead) place(keys ...string) value {
	for _, key := range keys {
		if w, ok := r.written[key]; ok {
			return w
		}
	}
	return r.at
}

// checkAuth reads what keys there are and holds the rules that fail closed. listen is where the listener is written.
func (c *Config) checkAuth(r *authRead, listen value, names []string) {
	reachable := !c.Server.Local()
	c.keys = newKeyReader(c, r, reachable, names)
	c.Auth.Keys = c.keys.join(r.at.d, r.keys)
	if !c.Open() {
		if w, ok := r.written["allow_unauthenticated"]; ok && c.Auth.AllowUnauthenticated {
			w.warn("is not used: auth.mode is keys")
		}
		return
	}
	if len(c.Auth.Keys) > 0 || c.Auth.JWT != nil {
		r.place("mode").warn("none lets everybody in: keys and tokens count with mode keys only")
	}
	switch {
	case !reachable || c.Auth.AllowUnauthenticated:
	case listen.d.literal:
		listen.problem("is open to other hosts while -auth none lets everybody in: put keys into the environment variable %s instead, "+
			"or listen on a loopback address or a unix socket", keysVariable)
	default:
		listen.problem("is open to other hosts while auth.mode is none lets everybody in: write auth.mode: keys and auth.keys, " +
			"listen on a loopback address or a unix socket, or write auth.allow_unauthenticated: true")
	}
}
