package proxy

import (
	"context"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/internal/demo"
	"github.com/dragoman-proxy/dragoman/translate"
)

// decide finds out who is calling, charges all three scopes and takes a slot of
// each, and settles, as every request does.
func decide(c *call, ctx *fasthttp.RequestCtx) *translate.Error {
	if e := c.authenticate(ctx); e != nil {
		return e
	}
	if e := c.admit(); e != nil {
		return e
	}
	c.settle()
	c.log.unlimited()
	return nil
}

// decision prepares a call that all limits apply to.
func decision(t testing.TB) (*call, *fasthttp.RequestCtx) {
	conf, problems := config.Parse("bench.yaml", []byte(authYAML(", limits: {requests: 1000000000/s, tokens: 1000000000/s, concurrent: 8}")+`
limits: {global: {requests: 1000000000/s, concurrent: 1000}}
agents:
  - {name: it, protocol: cycls, url: "demo:cycls", limits: {requests: 1000000000/s, tokens: 1000000000/s, concurrent: 100}}
`), config.Options{Protocols: translate.Names(), OptionCheck: translate.CheckOption})
	if conf == nil {
		t.Fatal(problems)
	}
	agents := demo.New(0)
	s, err := New(conf, zap.NewNop(), agents.Dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Shutdown(context.Background())
		agents.Close()
	})
	ctx := &fasthttp.RequestCtx{}
	ctx.Request.Header.Set("Authorization", "Bearer "+goodKey)
	c := &call{s: s, snap: s.snapshot(), start: time.Now(), face: defaultFace, agent: s.snapshot().agents[&conf.Agents[0]],
		req: &translate.Request{Body: []byte(chatHello)}}
	return c, ctx
}

// TestDecisionAllocatesNothing holds the promise that who calls and how often
// costs no memory.
func TestDecisionAllocatesNothing(t *testing.T) {
	c, ctx := decision(t)
	if n := testing.AllocsPerRun(1000, func() {
		if e := decide(c, ctx); e != nil {
			t.Fatal(e)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkDecision is what authentication and limits add to a request.
func BenchmarkDecision(b *testing.B) {
	c, ctx := decision(b)
	b.ReportAllocs()
	for b.Loop() {
		if e := decide(c, ctx); e != nil {
			b.Fatal(e)
		}
	}
}
