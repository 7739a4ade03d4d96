package config

import "time"

// Agent is one backend: where it is, what it speaks, and how it is treated.
type Agent struct {
	// Name is what clients call the agent by, as `model` or in /agents/{name}/. Required; letters, digits, dot,
	// underscore and hyphen, at most 64 of them; unique among all names and aliases.
	Name string

	// Aliases are further words that mean this agent. One with a star is a pattern, in which each star stands for any
	// run of characters. Default: none, but a single agent has "*" unless aliases are written (an empty list is written
	// too). A name wins over an alias, an exact alias over a pattern, a longer pattern over a shorter one.
	Aliases []string

	// Description is a sentence for people, shown where a protocol lists agents. Default: empty.
	Description string

	// Protocol is what the backend speaks. Required: chat, responses, cognipeer, ticos, swarms or cycls.
	Protocol string

	// URLs are where the backend is: one `url`, or several `urls` of replicas that all do the same. Required, in one form or
	// the other. See [Target].
	URLs []Target

	// Balance says how requests are shared among several urls. See [Balance].
	Balance Balance

	// Health asks the backends now and then whether they work. Default: not. See [Health].
	Health Health

	// Retry says when a request that failed is tried again. See [Retry].
	Retry Retry

	// Fallback names agents that are asked, in this order, when this one cannot have begun with a request. They may speak
	// another protocol. Default: none.
	Fallback []string

	// ReadAhead is how much of an answer is read ahead of a slow client, for protocol cycls, whose servers throw away what is
	// not read in time. Default: 1MiB. A client that falls further behind is cut off, and told so.
	ReadAhead Size

	// Path is the path of the backend's endpoint, after the base path of URL. Default: empty, which means the
	// protocol's own. Several paths are for Cycls only, and are probed in their order.
	Path []string

	// Model is what the backend is told as its model (Swarms: model_name; Ticos: the agent id in the path). Default:
	// empty, which means the client's own word. Set it when clients use the agent's name as their model.
	Model string

	// Credential is how Dragoman identifies itself to the backend. Default: none. A client's own
	// credential never goes on, unless this says forward.
	Credential Credential

	// Headers are added to every request to the backend, in this order. Default: none. Headers that belong to the
	// connection, the body or the credential are refused.
	Headers []Header

	// ForwardHeaders are names of client headers, in lower case, that go on to the backend beyond the built-in list of
	// tracing and dialect headers. Default: none.
	ForwardHeaders []string

	// TLS is for https:// backends whose certificate the system does not trust, or that ask for one. See [TLS].
	TLS TLS

	// Timeouts bound each phase of a request to the backend. See [AgentTimeouts].
	Timeouts AgentTimeouts

	// KeepAlive is how long an idle connection to the backend is kept for reuse; 0s keeps none. Default: 4s. It must be
	// shorter than the backend's own time, because a request sent into a closing connection is lost and is not sent
	// twice: Python servers close at 5s.
	KeepAlive time.Duration

	// Heartbeat keeps silent streams alive. See [Heartbeat].
	Heartbeat Heartbeat

	// AllowLinkLocal permits link-local and cloud metadata addresses (169.254.0.0/16, fe80::/10, fd00:ec2::254) as the
	// backend. Default: false, because they give out the host's credentials.
	AllowLinkLocal bool

	// Strict is [Translate].Strict for this agent alone. Default: false. Strict is in force when either is true.
	Strict bool

	// Limits are how often all clients together may call this agent; beyond them the answer is 429. Default: none. See
	// [Limits].
	Limits Limits

	// Defaults are filled in where the client was silent. See [Defaults].
	Defaults Defaults

	// Options are the protocol's own switches, each documented with the protocol; values are kept as text. Default: none.
	Options map[string]string
}

// Header is a header field that is added to requests.
type Header struct {
	Name  string // the field's name, as written
	Value string // the field's value: visible ASCII, spaces and tabs
}

// AgentTimeouts bound each phase of a request to the backend.
type AgentTimeouts struct {
	// Connect is the time to open a connection, TLS included. Default: 5s.
	Connect time.Duration

	// FirstByte is the time until the first byte of the answer. Default: 10m, because agents think, and the first byte
	// of a JSON answer is its last.
	FirstByte time.Duration

	// Idle is the longest silence within an answer. Default: 5m. Lower it for backends which send heartbeats.
	Idle time.Duration

	// Total is the time for the whole request. Default: 1h.
	Total time.Duration
}

// Heartbeat keeps silent streams alive through proxies that cut them.
type Heartbeat struct {
	// Stream is the silence in a stream after which the client is sent a comment that its protocol ignores; 0s sends
	// none. Default: 15s. Keep it below the idle timeout of whatever stands in front.
	Stream time.Duration

	// BeforeFirstByte is the silence before an agent's first byte after which a client that asked for a stream is sent the
	// head of it and a comment; then again as Stream says. Default: 0s, which sends none. It commits the answer to status
	// 200: a failure is told in the stream from then on.
	BeforeFirstByte time.Duration

	// JSON is the silence after which a client that waits for a JSON answer is sent white space, which JSON allows in front.
	// Default: 0s, which sends none. It commits the answer to status 200: a failure is told in the body from then on, in the
	// form that errors have.
	JSON time.Duration
}

// Balance says how requests are shared among the urls of an agent: each goes to the one with the fewest that run.
type Balance struct {
	// MaxConcurrent bounds the requests that one url serves at the same time; beyond it they wait as limits.queue says.
	// Default: 0, no bound.
	MaxConcurrent int

	// Failures in a row (refused, reset, timed out, 502, 503, 504; never a 500, which is the agent's own) after which a url is
	// left alone for a while. Default: 5; 0 is never. The last url that is left is never left alone, unless there is a fallback.
	Failures int

	// ErrorRate is the share of failures within ten seconds that does the same. Default: 0.5, of at least 20 requests; 0 is
	// never.
	ErrorRate float64

	// Pause is how long a url is left alone the first time; then one request tries it, and the pause doubles each time that
	// fails, up to ten times. Default: 10s.
	Pause time.Duration

	// SlowStart is the time that a url which is new or came back takes to get its full share. Default: 10s.
	SlowStart time.Duration
}

// Health asks the backends of an agent now and then whether they work.
type Health struct {
	// Interval between two checks. Default: 0s, which checks nothing.
	Interval time.Duration

	// Path is asked with GET and works if it answers 200 to 399. Default: empty, which asks what the protocol has that costs
	// nothing.
	Path string

	// Timeout of a check. Default: 2s.
	Timeout time.Duration

	// Ready has the agent count for readiness, wherever it lives. Default: false.
	Ready bool
}

// Retry says when a request that failed is tried again, on another url or by a fallback agent.
type Retry struct {
	// Idempotent says that the agent may be asked twice: then failures after it may have begun are tried again too, as long as
	// the client has seen nothing. Default: false, and a request is tried again only if no agent can have begun with it.
	Idempotent bool

	// Attempts is how many times more a request may be tried. Default: 1; 0 is never.
	Attempts int

	// Budget bounds the retries to a share of the requests. Default: 0.2.
	Budget float64
}

// Defaults are filled in where the client was silent; they never override it.
type Defaults struct {
	// SystemPrompt is the system prompt of a request without one. Default: empty, which adds nothing.
	SystemPrompt string

	// MaxTokens limits the answer's length where the client did not. Default: 0, which adds nothing.
	MaxTokens int

	// Temperature is the sampling temperature. Default: nil (null in the file), which adds nothing; 0 is a temperature.
	Temperature *float64
}

// DefaultAgent is an agent of whom nothing is written: its name, protocol and URL have no default.
func DefaultAgent() Agent {
	return Agent{
		Timeouts: AgentTimeouts{
			Connect:   5 * time.Second,
			FirstByte: 10 * time.Minute,
			Idle:      5 * time.Minute,
			Total:     time.Hour,
		},
		KeepAlive: 4 * time.Second,
		Heartbeat: Heartbeat{Stream: 15 * time.Second},
		Balance:   Balance{Failures: 5, ErrorRate: 0.5, Pause: 10 * time.Second, SlowStart: 10 * time.Second},
		Health:    Health{Timeout: 2 * time.Second},
		Retry:     Retry{Attempts: 1, Budget: 0.2},
		ReadAhead: MiB,
	}
}
