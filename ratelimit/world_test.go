package ratelimit

import (
	"sync/atomic"
	"testing"
	"time"
)

// clock is a fake one.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time      { return time.Unix(0, c.ns.Load()) }
func (c *clock) add(d time.Duration) { c.ns.Add(int64(d)) }

// take is what most tests do: a request of one scope.
func ask(t *testing.T, l *Limiter, s *Scope, tokens int64) (*Grant, *Refusal) {
	t.Helper()
	g := new(Grant)
	r := l.Take(t.Context(), [3]*Scope{s}, tokens, g)
	return g, r
}

func mustPass(t *testing.T, l *Limiter, s *Scope, tokens int64) *Grant {
	t.Helper()
	g, r := ask(t, l, s, tokens)
	if r != nil {
		t.Fatalf("refused: %+v", r)
	}
	return g
}

func mustRefuse(t *testing.T, l *Limiter, s *Scope, tokens int64) *Refusal {
	t.Helper()
	_, r := ask(t, l, s, tokens)
	if r == nil {
		t.Fatal("admitted")
	}
	return r
}

func perSecond(n int64) Limits { return Limits{Requests: Rate{Events: n, Per: time.Second}} }

func tokens(n int64, per time.Duration) Limits { return Limits{Tokens: Rate{Events: n, Per: per}} }
