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

	// URLs are where the backend is: one `url`, or up to 64 `urls` of replicas that all do the same. Exactly one of both is
	// required. See [Target].
	URLs []Target

	// Balance says how requests are shared among the urls, and when one of them is left alone. See [Balance].
	Balance Balance

	// Health asks the urls now and then whether they work. Default: it does not, and only requests tell. See [Health].
	Health Health

	// Retry says when a request that failed is tried again, on another url or by a fallback. See [Retry].
	Retry Retry

	// Fallback names other agents, not their aliases, that are asked in this order when no url of this one is left to try; of
	// whatever protocol, because the request is written anew for each. Their own fallbacks are not followed, their limits
	// count, and a caller need not be allowed to call them. Each that a request is sent to is one of the attempts of [Retry],
	// and has what is left of the total time of this agent. Default: none.
	Fallback []string

	// ReadAhead is how much of a stream is held for a client that reads more slowly than the agent writes, for protocol
	// cycls alone: its servers throw away what is not read in time. Default: 1MiB; from 64KiB to 1GiB. A client that falls
	// further behind is cut off, and told so. It is memory for each such client: raise it for agents that send much at once.
	ReadAhead Size

	// MaxInputTokens is how long a conversation with the agent may be, in tokens as they are estimated: one for each four
	// bytes. Beyond it a request with truncation: auto leaves its oldest turns out, any other is refused. Default: 0, no
	// bound.
	MaxInputTokens int64

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
	// Stream is the silence in a stream that has begun after which the client is sent a comment, which its protocol ignores;
	// 0s sends none. Default: 15s. Keep it below the idle timeout of whatever stands in front.
	Stream time.Duration

	// BeforeFirstByte is how long a client that asked for a stream waits for the agent's first byte until it is sent the
	// stream's head and a comment; from then on Stream holds. Default: 0s, which sends none; else from 100ms. Its price: the
	// answer is status 200 from then on, so that a failure is told in the stream, and no SDK tries again. Set it for agents
	// that think for longer than what stands in front waits for the first byte.
	BeforeFirstByte time.Duration

	// JSON is how often a client that waits for a JSON answer is sent white space, which JSON allows in front of a value.
	// Default: 0s, which sends none; else from 100ms. Its price: the answer is status 200 from then on, so that a failure is
	// an error in a body with status 200, which clients that look at the status alone take for an answer. Set it for clients
	// that give up early: Swarms' own does after 60s, and then runs the agent twice more.
	JSON time.Duration
}

// Balance says how requests are shared among the urls of an agent, and when one is left alone. Each request goes to the url
// with the fewest that run; those of one conversation go to one url as long as it may be asked.
type Balance struct {
	// MaxConcurrent bounds the requests that one url serves at the same time; more of them wait in line, as limits.queue
	// says. Default: 0, no bound. Set it where a backend can do only so much at once. See [Limits].Concurrent for a bound
	// over all urls.
	MaxConcurrent int

	// Failures is how many in a row have a url left alone for Pause: refused and broken connections, time that ran out, 502,
	// 503, 504 and answers that break off or cannot be read; never a 500, which is the agent's own, and never a client that
	// leaves. Default: 5; 0 is never. The last url that is left is asked on, unless there is a fallback.
	Failures int

	// ErrorRate is the share of such failures among the requests of ten seconds, at least 20 of them, that does the same; in
	// the file it may be written as 50%. Default: 0.5; 0 is never.
	ErrorRate float64

	// Pause is how long a url is left alone at first, and up to a fifth longer. Then one request tries it, and the pause
	// doubles with each that fails, up to ten times. Default: 10s; from 100ms to 1h.
	Pause time.Duration

	// SlowStart is the time in which a url that was added or came back grows into its full share. Default: 10s; up to 1h; 0s
	// gives it at once.
	SlowStart time.Duration
}

// Health asks the urls of an agent now and then whether they work. One that does not is not asked anything else.
type Health struct {
	// Interval is the time between two checks of a url. Default: 0s, no checks; else from 100ms, and no shorter than Timeout.
	// Set it where a url that fails should be found out before a request does it.
	Interval time.Duration

	// Path is what a check asks for with GET; 200 to 399 says that the url works. It comes after the base path of the url.
	// Default: empty, and the check is whatever the protocol has that runs no agent.
	Path string

	// Timeout is the time that a check may take. Default: 2s; from 10ms to 1m.
	Timeout time.Duration

	// Ready has the agent count for /readyz, on whichever host it runs. Default: false, and only urls of this host count, so
	// that a fault of one shared agent does not take all proxies out of service. The proxy is ready as long as one url that
	// counts works.
	Ready bool
}

// Retry says when a request that failed is tried again, on another url or by a fallback agent. It never is once the
// client has seen a byte of the answer, and never after a 500, which is the agent's own.
type Retry struct {
	// Idempotent says that the agent may be asked the same twice. Default: false, and a request is tried again only where no
	// agent can have begun with it: no connection, 429, 503. With true also where one may have: a connection that broke, time
	// that ran out, 502, 504, an answer that cannot be read. Leave it off for agents that act: they would act twice.
	Idempotent bool

	// Attempts is how many times more a request may be sent, to urls and fallbacks together. Default: 1; from 0, never, to 10.
	// A url that may not be asked, because it was left alone or its check failed, costs none. With several fallbacks raise it.
	Attempts int

	// Budget bounds the retries of all requests to a share of them, within ten seconds and with thirty to spare; in the file it
	// may be written as 20%. Default: 0.2; 0 allows none. It keeps retries from burying an agent that fails because it has
	// too much to do.
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
