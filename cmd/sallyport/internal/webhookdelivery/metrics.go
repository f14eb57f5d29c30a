package webhookdelivery

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/pause"
	"github.com/sallyport/sallyport/webhook/dispatch"
	webhookpg "github.com/sallyport/sallyport/webhook/postgres"
)

// readAges reads the state of the queue for metrics, until ctx ends. While the database is
// unavailable, the last state ages: the metrics have the time of the oldest delivery.
func (d *Delivery) readAges(ctx context.Context) {
	for {
		reading, cancel := context.WithTimeout(ctx, ageInterval)
		list, err := d.queue.Ages(reading)
		cancel()
		if err == nil {
			ages := make(map[string]webhookpg.Age, len(list))
			for _, a := range list {
				ages[a.Endpoint] = a
			}
			d.ages.Store(&ages)
		}
		if !pause.For(ctx, ageInterval) {
			return
		}
	}
}

// age returns the last known state of an endpoint's tasks.
func (d *Delivery) age(endpoint string) webhookpg.Age {
	if ages := d.ages.Load(); ages != nil {
		return (*ages)[endpoint]
	}
	return webhookpg.Age{}
}

func (d *Delivery) status(endpoint string) dispatch.Status {
	for _, st := range d.dispatcher.Status() {
		if st.Endpoint == endpoint {
			return st
		}
	}
	return dispatch.Status{}
}

// registerMetrics adds the metrics of the queue and of the endpoints.
func (d *Delivery) registerMetrics() {
	m := d.config.Metrics
	m.GaugeBy("sallyport_webhook_queue_depth", "Accepted deliveries that an endpoint has not received yet.", "endpoint", d.names, func(e string) float64 { return float64(d.age(e).Open) })
	m.GaugeBy("sallyport_webhook_oldest_delivery_timestamp_seconds", "When the oldest of these deliveries was accepted; 0: none waits.", "endpoint", d.names, func(e string) float64 {
		return seconds(d.age(e).Oldest)
	})
	m.GaugeBy("sallyport_webhook_dead_letters", "Dead letters of an endpoint that are kept for replay.", "endpoint", d.names, func(e string) float64 { return float64(d.age(e).Dead) })
	var direct []string
	for _, st := range d.dispatcher.Status() {
		direct = append(direct, st.Endpoint)
	}
	m.GaugeBy("sallyport_webhook_circuit_open", "1 while the circuit of an endpoint is open or half open: attempts fail, and only probes are sent.", "endpoint", direct, func(e string) float64 {
		if d.status(e).Circuit == dispatch.Closed {
			return 0
		}
		return 1
	})
	m.GaugeBy("sallyport_webhook_sending", "Deliveries that are being sent to an endpoint.", "endpoint", direct, func(e string) float64 { return float64(d.status(e).Sending) })
	m.GaugeBy("sallyport_webhook_last_delivery_timestamp_seconds", "When this instance last delivered to an endpoint; 0: not since its start.", "endpoint", direct, func(e string) float64 {
		return seconds(d.status(e).Delivered)
	})
	if d.credentials != nil {
		m.Gauge("sallyport_webhook_oldest_agent_credential_timestamp_seconds", "When the oldest valid credential of an agent was created; 0: there is none, or the database is unavailable.", d.oldestCredential)
	}
}

func (d *Delivery) oldestCredential() float64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	at, err := d.credentials.Oldest(ctx)
	if err != nil {
		return 0
	}
	return seconds(at)
}

// seconds returns a Unix time; 0 for the zero time.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// Detail returns a detail of /readyz: the circuits, and the causes of failures.
func (d *Delivery) Detail() any {
	endpoints := map[string]map[string]string{}
	for _, st := range d.dispatcher.Status() {
		e := map[string]string{"circuit": st.Circuit.String(), "last_delivery": cli.FormatTimeOrNever(st.Delivered)}
		if st.Cause != "" {
			e["last_failure"] = st.Cause
		}
		if !st.OpenUntil.IsZero() {
			e["open_until"] = cli.FormatTime(st.OpenUntil)
		}
		endpoints[st.Endpoint] = e
	}
	return endpoints
}

// observer counts results of the dispatcher and of agents.
type observer struct{ m *admin.DispatchMetrics }

func (o observer) Attempted(endpoint string, outcome dispatch.Outcome, took time.Duration) {
	o.m.Attempted(endpoint, outcome.String(), took)
}
func (o observer) DeadLetter(endpoint string) { o.m.DeadLetter(endpoint) }
func (o observer) LeaseLost(endpoint string)  { o.m.LeaseLost(endpoint) }
