package proxy

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/gjson"
	"github.com/valyala/fasthttp"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
	"github.com/dragoman-proxy/dragoman/internal/state"
	"github.com/dragoman-proxy/dragoman/ratelimit"
	"github.com/dragoman-proxy/dragoman/translate"
)

// run is an answer that outlives its request. Its events are kept while it runs, and each of its readers has its own
// place in them.
type run struct {
	call *call
	face translate.BackgroundFace
	id   string

	mu      sync.Mutex
	events  []byte // whole frames, only ever appended to
	marks   []eventMark
	changed chan struct{} // closed when there is more, and made anew
	working bool
	done    bool // no more events come, and what it came to is kept
	stopped chan struct{}

	pieces keptPieces // one goroutine's at a time
}

// eventMark is where an event begins.
type eventMark struct {
	seq int64
	at  int
}

var (
	errCancelled   = errors.New("the answer was cancelled")
	errTooMuchSaid = errors.New("the events of the answer exceed state.background.max_events")
)

// runs are the answers that run in the background, by their ids.
type runs struct {
	mu  sync.Mutex
	all map[string]*run
}

func (r *runs) get(owner, id string) *run {
	r.mu.Lock()
	defer r.mu.Unlock()
	if run := r.all[id]; run != nil && run.call.owner() == owner {
		return run
	}
	return nil
}

func (r *runs) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// add notes a run, unless there are too many.
func (r *runs) add(x *run, most int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) >= most {
		return false
	}
	if r.all == nil {
		r.all = map[string]*run{}
	}
	r.all[x.id] = x
	return true
}

func (r *runs) remove(x *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, x.id)
}

func newRun(c *call, face translate.BackgroundFace, id string) *run {
	return &run{call: c, face: face, id: id, changed: make(chan struct{}), stopped: make(chan struct{})}
}

// background has the request run on without its client, and answers at once.
func (c *call) background(ctx *fasthttp.RequestCtx, in *translate.Inbound, out *buffer, streams bool) *translate.Error {
	face, ok := c.face.Face.(translate.BackgroundFace)
	if !ok {
		panic("BUG: " + c.face.Name + " has taken a request for the background")
	}
	b := c.detach(streams)
	x := newRun(b, face, b.thread.keep.ID)
	b.run = x
	if !c.s.runs.add(x, c.snap.conf.State.Background.Concurrent) {
		b.drop()
		return &translate.Error{Kind: translate.KindOverloaded, Status: 503, Code: "overloaded", RetryAfter: time.Second,
			Message: "As many answers are worked at in the background as may be."}
	}
	give := func(e *translate.Error) *translate.Error {
		c.s.runs.remove(x)
		b.drop()
		return e
	}
	// The lease says that somebody is at work, and is there before the answer is.
	release, e := b.lock(b.runName())
	if e != nil {
		return give(e)
	}
	object := face.AppendStatus(nil, &b.setup, "queued", nil)
	change := b.record("queued", object, nil, false)
	if streams { // says that there will be some
		change.Put = append(change.Put, piecesEntry(b.thread.conv, b.thread.name, 0, false))
	}
	if e := b.changeState(change, notThere("Response", x.id)); e != nil {
		release()
		return give(e)
	}
	if e := b.begin(nil, nil); e != nil {
		release()
		b.saveState(b.unrecorded())
		return give(e)
	}
	x.publish(face.AppendQueued(nil, &b.setup))
	client := &fasthttp.RequestHeader{}
	ctx.Request.Header.CopyTo(client)
	asked := takeBuffer()
	asked.b = append(asked.b, out.b...)
	strict := asksStrict(ctx)
	inbound := *in
	inbound.Body = b.body.b
	go b.work(x, client, &inbound, asked, strict, release)
	if streams {
		return c.follow(ctx, x, -1, nil)
	}
	return c.reply(ctx, object)
}

// detach is a call of its own with what the client's has of the request; the client's goes on without it.
func (c *call) detach(streams bool) *call {
	// The body goes with the run, which may end before the client's log line is written.
	for i, name := range c.log.dropped {
		c.log.dropped[i] = strings.Clone(name)
	}
	b := &call{
		s: c.s, snap: c.snap, start: c.start, id: c.id, seed: c.seed, match: c.match, face: c.face, agent: c.agent, req: c.req, body: c.body,
		asks: c.asks, who: c.who, grant: c.grant, input: c.input, hops: c.hops, thread: c.thread,
		log: record{method: c.log.method, path: c.log.path, key: c.log.key, face: c.log.face, agent: c.log.agent, backend: c.log.backend, stream: true, dropped: c.log.dropped, trace: c.log.trace},
	}
	b.thread.keep.Save = b.save
	b.setup = b.newSetup()
	b.streams = streams
	b.most = c.snap.conf.State.Background.Timeout
	c.body, c.thread, c.grant = nil, nil, ratelimit.Grant{}
	return b
}

// drop gives back what a call has that does not run.
func (c *call) drop() {
	if c.thread != nil && c.thread.unlock != nil {
		c.thread.unlock()
	}
	c.settle()
	if c.body != nil {
		c.body.drop()
		c.body = nil
	}
}

func (c *call) runName() string { return "run-" + c.thread.conv + c.thread.name }

// record is the change that keeps what has become of the answer.
func (c *call) record(status string, object []byte, output []byte, before bool) state.Change {
	t := c.thread
	tu := keptTurn{prev: t.before, agent: c.front0().conf.Name, by: c.agent.conf.Name, at: c.start.Unix(), status: status, in: string(t.said), out: string(output)}
	change := state.Change{Put: []state.Entry{{Ref: turnRef(t.conv, t.name), Value: tu.append(nil)}, {Ref: objectRef(t.conv, t.name), Value: object}}}
	if before {
		change.Need = []state.Ref{turnRef(t.conv, t.name)} // it may have been deleted meanwhile
	}
	return change
}

func (c *call) unrecorded() state.Change {
	return state.Change{Remove: []state.Ref{turnRef(c.thread.conv, c.thread.name), objectRef(c.thread.conv, c.thread.name)}}
}

// cancelRef is where another proxy asks for the end of a run.
func cancelRef(conv, name string) state.Ref { return objectRef(conv, "cancel-"+name) }

// work is the run.
func (c *call) work(x *run, client *fasthttp.RequestHeader, in *translate.Inbound, out *buffer, strict bool, release func()) {
	unwatch := c.watch(x)
	defer func() {
		if p := recover(); p != nil {
			c.log.err = c.panicked(p)
		}
		release()
		x.end()
		c.s.runs.remove(x)
		c.release()
		out.drop()
		c.finished()
	}()
	defer func() {
		unwatch()
		x.keepEvents(true)
	}()
	defer func() {
		if p := recover(); p != nil {
			c.log.err = c.panicked(p)
			x.fail(c.log.err)
		}
	}()
	e := c.queue()
	if e == nil {
		e = c.converseWith(in, out, strict, func() *translate.Error {
			return c.attempts(client, in, out, strict, func() *translate.Error { return c.overhear(x) })
		})
	}
	c.log.status = 200
	if e != nil {
		c.log.err = e
		x.fail(e)
	} else if c.ans != nil {
		c.log.err = c.ans.Err()
	}
}

// watch keeps the events of a run as they come, and ends the run when another proxy asks for that, or when nobody can have its
// answer any more. What it returns ends the watch, and waits for it.
func (c *call) watch(x *run) (unwatch func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	here := state.Read{Refs: []state.Ref{cancelRef(c.thread.conv, c.thread.name), turnRef(c.thread.conv, c.thread.name)}}
	go func() {
		defer close(ended)
		defer c.recovered()
		t := time.NewTicker(c.s.share)
		defer t.Stop()
		for {
			select {
			case <-over:
				return
			case <-t.C:
			}
			x.keepEvents(false)
			ctx, stop := c.stateContext()
			found, err := c.s.state.Read(ctx, c.owner(), here)
			stop()
			if err == nil && (found.Values[0] != nil || found.Values[1] == nil && !x.streamed()) {
				c.cancel.Cancel(errCancelled)
			}
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// overhear reads the agent's answer into the events.
func (c *call) overhear(x *run) *translate.Error {
	c.setup.Keep.Handle = ""
	stream, e := c.open()
	if e != nil {
		return e
	}
	buf := takeBuffer()
	defer buf.drop()
	if !stream {
		e := c.answerBody(buf)
		if e != nil && !c.ans.Started() {
			return e
		}
		return x.say(buf, e)
	}
	p := &pump{c: c, lastRead: time.Now(), out: &buf.b, unseen: true}
	for !p.over {
		p.step()
		if !p.over && p.finished() {
			p.finish(nil)
		}
		e := c.ans.Err()
		if !c.ans.Started() && !p.over {
			continue // it may still be asked of another
		}
		if e != nil && !c.ans.Started() {
			return e
		}
		if e := x.say(buf, e); e != nil {
			c.cancel.Cancel(errTooMuchSaid)
			p.leave(e)
			x.fail(e)
			return nil
		}
	}
	p.drain()
	return nil
}

// say publishes what is in buf. An answer that failed is kept as such before that is told.
func (x *run) say(buf *buffer, failed *translate.Error) *translate.Error {
	if len(buf.b) == 0 {
		return nil
	}
	if failed != nil {
		x.fail(failed)
		buf.b = buf.b[:0]
		return nil
	}
	x.mu.Lock()
	size := len(x.events) + len(buf.b)
	x.mu.Unlock()
	if size > int(x.call.snap.conf.State.Background.MaxEvents) {
		return &translate.Error{Kind: translate.KindInternal, Status: 500, Code: "answer_too_long", Cause: errTooMuchSaid, NoRetry: true,
			Message: "The answer is longer than answers in the background may be."}
	}
	x.publish(buf.b)
	buf.b = buf.b[:0]
	return nil
}

// publish appends frames.
func (x *run) publish(frames []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at := len(x.events)
	x.events = append(x.events, frames...)
	for at < len(x.events) {
		end := bytes.Index(x.events[at:], []byte("\n\n"))
		if end < 0 {
			break
		}
		if seq, ok := sequenceOf(x.events[at : at+end]); ok {
			x.marks = append(x.marks, eventMark{seq, at})
		}
		at += end + 2
	}
	x.working = len(x.marks) > 2
	close(x.changed)
	x.changed = make(chan struct{})
}

// sequenceOf is the number of an event.
func sequenceOf(frame []byte) (int64, bool) {
	_, data, ok := bytes.Cut(frame, []byte("data: "))
	if !ok || !bytes.HasPrefix(data, []byte("{")) {
		return 0, false
	}
	n := gjson.GetBytes(data, "sequence_number")
	return n.Int(), n.Type == gjson.Number
}

// fail keeps that the answer failed, or was cancelled, and then tells it. It does nothing behind an end.
func (x *run) fail(e *translate.Error) {
	c := x.call
	x.mu.Lock()
	over := x.over()
	x.mu.Unlock()
	if over {
		return
	}
	status := "failed"
	if errors.Is(c.cancel.Err(), errCancelled) {
		status, e = "cancelled", nil
	}
	object := x.face.AppendStatus(nil, &c.setup, status, e)
	c.saveState(c.record(status, object, nil, true))
	x.publish(x.face.AppendLast(nil, x.following(-1), status, object))
}

// following is the number of the event behind all that were told, for a client that has had one of number seq.
func (x *run) following(seq int64) int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := len(x.marks); n > 0 {
		seq = max(seq, x.marks[n-1].seq)
	}
	return seq + 1
}

// over reports whether the last event has been told; mu is held.
func (x *run) over() bool { return bytes.HasSuffix(x.events, []byte("data: [DONE]\n\n")) }

// streamed reports whether the client asked for a stream.
func (x *run) streamed() bool { return x.call.streams }

func (x *run) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.done {
		x.done = true
		close(x.changed)
		x.changed = make(chan struct{})
		close(x.stopped)
	}
}

// after is where the events behind a number begin, and whether all has been told up to its end.
func (x *run) after(seq int64) int {
	i, _ := slices.BinarySearchFunc(x.marks, seq+1, func(m eventMark, n int64) int { return int(m.seq - n) })
	if i < len(x.marks) {
		return x.marks[i].at
	}
	return -1
}

// next is what is to be told from at on; at is -1 while there is nothing behind the number yet.
func (x *run) next(at int, seq int64) (frames []byte, from int, over bool, changed <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if at < 0 {
		if at = x.after(seq); at < 0 {
			return nil, -1, x.done || x.over(), x.changed
		}
	}
	return x.events[at:len(x.events):len(x.events)], at, x.done || x.over(), x.changed
}

// follower writes the events of a run to a client.
type follower struct {
	c    *call
	of   *run
	seq  int64
	feed func(over <-chan struct{}) // tells of what another proxy works at; nil: this one does, or all is here
}

// follow has the client told of the events of a run behind a number.
func (c *call) follow(ctx *fasthttp.RequestCtx, x *run, seq int64, feed func(over <-chan struct{})) *translate.Error {
	c.resume(ctx, &follower{c: c, of: x, seq: seq, feed: feed})
	return nil
}

// followBeat is how long a client that follows a run hears nothing.
const followBeat = 15 * time.Second

// tell writes what there is and what comes, until the end.
func (f *follower) tell(conn net.Conn) (err error) {
	c := f.c
	limit := c.snap.conf.Server.Timeouts.Write
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if cause := c.cancel.attachDial(stop); cause != nil {
		return cause
	}
	write := func(b []byte, last bool) error {
		if limit > 0 {
			_ = conn.SetWriteDeadline(time.Now().Add(limit))
		}
		if !c.http10 {
			b = appendChunk(nil, b)
			if last {
				b = append(b, lastChunk...)
			}
		}
		n, err := conn.Write(b)
		c.log.bytesOut += int64(n)
		return err
	}
	head := answerHead{id: c.id, agent: c.agentNames(), limited: c.log.limited, stream: true, http10: c.http10, closes: !c.keepAlive}
	if _, err := conn.Write(head.append(nil, time.Now())); err != nil {
		return err
	}
	if f.feed != nil {
		over, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			defer c.recovered()
			f.feed(over)
		}()
		defer func() {
			close(over)
			<-ended
		}()
	}
	waited, stopWaiting := context.WithCancel(context.Background())
	defer stopWaiting()
	gone := ctx.Done()
	at := -1
	beat := time.NewTimer(followBeat)
	defer beat.Stop()
	for {
		frames, from, over, changed := f.of.next(at, f.seq)
		if len(frames) > 0 {
			if err := write(frames, over); err != nil {
				return err
			}
			at = from + len(frames)
			if over {
				return nil
			}
			continue
		}
		if over {
			return write(nil, true)
		}
		beat.Reset(followBeat)
		select {
		case <-changed:
		case <-beat.C:
			if err := write([]byte(streamBeat), false); err != nil {
				return err
			}
		case <-gone:
			if cause := c.cancel.Err(); !errors.Is(cause, errShutdown) {
				return cause
			}
			// The run ends for the same reason, and its client is owed the end.
			gone = nil
			time.AfterFunc(hangUpTime, stopWaiting)
		case <-waited.Done():
			if f.feed != nil { // the run goes on, and can be followed at another proxy
				_ = write(f.of.face.AppendCut(nil, f.of.following(f.seq), shuttingDown()), true)
			}
			return errShutdown
		}
	}
}

// run implements remainder.
func (f *follower) run(conn net.Conn) (reuse bool) {
	c := f.c
	defer func() {
		if r := recover(); r != nil {
			reuse = false
			c.log.err = c.panicked(r)
		}
		c.release()
		if !reuse {
			_ = conn.Close()
		}
		c.finished()
	}()
	c.log.status = 200
	if err := f.tell(conn); err != nil {
		e := cutError(err)
		if errors.Is(err, errShutdown) {
			e = shuttingDown()
		} else if e.Kind != translate.KindClosed {
			e = cutError(goneError(err, c.snap.conf.Server.Timeouts.Write))
		}
		c.log.err, c.log.status = e, 499
		return false
	}
	_ = conn.SetWriteDeadline(time.Time{})
	return c.keepAlive && !c.http10 && !c.s.draining.Load()
}

// reply answers with JSON.
func (c *call) reply(ctx *fasthttp.RequestCtx, body []byte) *translate.Error {
	c.headers(&ctx.Response.Header)
	ctx.Response.SetStatusCode(200)
	ctx.Response.Header.SetContentType("application/json")
	ctx.Response.SetBodyRaw(body)
	c.log.status, c.log.bytesOut = 200, int64(len(body))
	return nil
}

// outcomeOf is what has become of a kept answer by now: one whose proxy has died has failed, and that is kept.
func (c *call) outcomeOf(conv, name string, tu keptTurn, object []byte) (keptTurn, []byte, *translate.Error) {
	if tu.status != "queued" {
		return tu, object, nil
	}
	ctx, stop := c.stateContext()
	defer stop()
	holder, err := c.s.state.Leased(ctx, c.owner(), "run-"+conv+name)
	if err != nil {
		c.s.stateFailed("read", err)
		return tu, nil, errStateDown(err)
	}
	if holder != "" {
		return tu, withMember(object, "status", `"in_progress"`), nil
	}
	// It may have ended between the two.
	found, e := c.readState(state.Read{Refs: []state.Ref{turnRef(conv, name), objectRef(conv, name)}})
	if e != nil {
		return tu, nil, e
	}
	now, ok := parseTurn(name, found.Values[0])
	if !ok || found.Values[1] == nil || !jsonx.Valid(found.Values[1]) {
		return tu, nil, notThere("Response", c.match.id)
	}
	if now.status != "queued" {
		return now, found.Values[1], nil
	}
	object = withMember(withMember(found.Values[1], "status", `"failed"`), "error",
		`{"code":"server_error","message":"The server that worked at this answer stopped before it was complete."}`)
	now.status = "failed"
	c.saveState(state.Change{Need: []state.Ref{turnRef(conv, name)}, Put: []state.Entry{{Ref: turnRef(conv, name), Value: now.append(nil)}, {Ref: objectRef(conv, name), Value: object}}})
	return now, object, nil
}

// withMember is a JSON object with a member that is another.
func withMember(object []byte, key, raw string) []byte {
	v := gjson.GetBytes(object, key)
	if !v.Exists() || v.Index == 0 {
		return object
	}
	out := append([]byte(nil), object[:v.Index]...)
	out = append(out, raw...)
	return append(out, object[v.Index+len(v.Raw):]...)
}

// streamResponse tells the events of a kept answer behind a number again.
func (c *call) streamResponse(ctx *fasthttp.RequestCtx, after string) *translate.Error {
	seq := int64(-1)
	if after != "" {
		n, err := strconv.ParseInt(after, 10, 64)
		if err != nil || n < 0 {
			return translate.Invalid(translate.At("starting_after"), "'starting_after' must be the number of an event.")
		}
		seq = n
	}
	if x := c.s.runs.get(c.owner(), c.match.id); x != nil && x.streamed() {
		return c.tell(ctx, x, seq, nil)
	}
	m := &mirror{run: newRun(c, c.face.Face.(translate.BackgroundFace), c.match.id), seq: seq} //nolint:forcetypeassert // the route is its own
	over, e := m.step()
	switch {
	case e != nil:
		return e
	case over:
		m.end()
		return c.tell(ctx, m.run, seq, nil)
	}
	return c.tell(ctx, m.run, seq, m.feed)
}

// shownResponse is an answer with its output.
func (c *call) shownResponse(object []byte, tu keptTurn) []byte {
	return c.face.Face.(translate.KeptFace).AppendResponse(nil, object, tu.out, nil) //nolint:forcetypeassert // the route is its own
}

// tell has the client follow a run from here on; its departure ends that.
func (c *call) tell(ctx *fasthttp.RequestCtx, x *run, seq int64, feed func(over <-chan struct{})) *translate.Error {
	if e := c.begin(ctx.Conn(), func() { c.cancel.Cancel(errClientGone) }); e != nil {
		return e
	}
	return c.follow(ctx, x, seq, feed)
}

// cancelResponse ends a run, and answers when it has ended.
func (c *call) cancelResponse() ([]byte, *translate.Error) {
	tu, object, e := c.stored(c.match.id)
	if e != nil {
		return nil, e
	}
	if gjson.GetBytes(object, "background").Type != gjson.True {
		return nil, translate.Invalid(translate.At("id"), "Only a response that runs in the background can be cancelled.")
	}
	if tu.status != "queued" {
		return c.shownResponse(object, tu), nil
	}
	conv, name, _ := splitID(c.match.id)
	if x := c.s.runs.get(c.owner(), c.match.id); x != nil {
		x.call.cancel.Cancel(errCancelled)
		select {
		case <-x.stopped:
		case <-time.After(c.snap.conf.State.Timeout):
		}
	} else {
		if e := c.changeState(state.Change{Need: []state.Ref{turnRef(conv, name)}, Put: []state.Entry{{Ref: cancelRef(conv, name), Value: []byte("1")}}}, notThere("Response", c.match.id)); e != nil {
			return nil, e
		}
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
			if tu, _, e = c.stored(c.match.id); e != nil || tu.status != "queued" {
				break
			}
			if e := c.rest(100 * time.Millisecond); e != nil {
				return nil, e
			}
		}
	}
	if tu, object, e = c.stored(c.match.id); e != nil {
		return nil, e
	}
	return c.shownResponse(object, tu), nil
}
