package translate

import (
	"testing"
	"time"
)

func TestSwarmsTellsLimitsInTheVendorsShape(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 1, 15, 10, 29, 30, 0, time.FixedZone("", 3600))
	at := time.Date(2024, 1, 15, 9, 29, 59, 1, time.UTC)
	for _, c := range []struct {
		name string
		l    Limits
		want string
	}{
		{"all", Limits{
			Minute: LimitWindow{Limit: 100, Remaining: 95, Reset: at, Limited: true},
			Hour:   LimitWindow{Limit: 350, Remaining: 0, Reset: at.Add(time.Hour), Limited: true},
			Day:    LimitWindow{Limit: 1200, Remaining: -3, Reset: at.Add(24 * time.Hour), Limited: true},
			Tokens: 200000, Now: now,
		}, `{"success":true,"rate_limits":{` +
			`"minute":{"count":5,"limit":100,"exceeded":false,"remaining":95,"reset_time":"2024-01-15T09:30:00Z"},` +
			`"hour":{"count":350,"limit":350,"exceeded":true,"remaining":0,"reset_time":"2024-01-15T10:30:00Z"},` +
			`"day":{"count":1200,"limit":1200,"exceeded":true,"remaining":0,"reset_time":"2024-01-16T09:30:00Z"}},` +
			`"limits":{"maximum_requests_per_minute":100,"maximum_requests_per_hour":350,"maximum_requests_per_day":1200,"tokens_per_agent":200000},` +
			`"tier":"premium","timestamp":"2024-01-15T09:29:30Z"}`},
		{"none", Limits{Now: now, Day: LimitWindow{Limit: 7, Remaining: 1}}, `{"success":true,"rate_limits":{` +
			`"minute":{"count":0,"limit":2147483647,"exceeded":false,"remaining":2147483647,"reset_time":"2024-01-15T09:29:30Z"},` +
			`"hour":{"count":0,"limit":2147483647,"exceeded":false,"remaining":2147483647,"reset_time":"2024-01-15T09:29:30Z"},` +
			`"day":{"count":0,"limit":2147483647,"exceeded":false,"remaining":2147483647,"reset_time":"2024-01-15T09:29:30Z"}},` +
			`"limits":{"maximum_requests_per_minute":2147483647,"maximum_requests_per_hour":2147483647,"maximum_requests_per_day":2147483647,"tokens_per_agent":2147483647},` +
			`"tier":"premium","timestamp":"2024-01-15T09:29:30Z"}`},
		{"more than there is", Limits{Now: now, Minute: LimitWindow{Limit: 7, Remaining: 9, Reset: now, Limited: true}}, `{"success":true,"rate_limits":{` +
			`"minute":{"count":0,"limit":7,"exceeded":false,"remaining":7,"reset_time":"2024-01-15T09:29:30Z"},` +
			`"hour":{"count":0,"limit":2147483647,"exceeded":false,"remaining":2147483647,"reset_time":"2024-01-15T09:29:30Z"},` +
			`"day":{"count":0,"limit":2147483647,"exceeded":false,"remaining":2147483647,"reset_time":"2024-01-15T09:29:30Z"}},` +
			`"limits":{"maximum_requests_per_minute":7,"maximum_requests_per_hour":2147483647,"maximum_requests_per_day":2147483647,"tokens_per_agent":2147483647},` +
			`"tier":"premium","timestamp":"2024-01-15T09:29:30Z"}`},
	} {
		if got := string(swarmsFace{}.AppendLimits([]byte("^"), c.l)); got != "^"+c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

// A route without its face's half would be answered with something else.
func TestRoutesOfLimitsHaveTheirFace(t *testing.T) {
	t.Parallel()
	for _, p := range Protocols() {
		for _, r := range p.Routes {
			if _, ok := p.Face.(LimitsFace); r.Op == OpLimits && !ok {
				t.Errorf("%s has a route for limits and no words for them", p.Name)
			}
		}
	}
}
