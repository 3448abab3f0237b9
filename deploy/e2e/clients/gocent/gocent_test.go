// The server API through gocent v3, against the node at FANWAY_URL. The library sends {"method", "params"} to the bare path
// /api, and several commands of a pipe one to a line.
package gocent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/centrifugal/gocent/v3"
)

func client(key string) *gocent.Client {
	return gocent.New(gocent.Config{Addr: os.Getenv("FANWAY_URL") + "/api", Key: key})
}

// setUp returns a deadline, a client as its documentation shows it, and a channel of the test's own.
func setUp(t *testing.T) (context.Context, *gocent.Client, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx, client(os.Getenv("FANWAY_API_KEY")), fmt.Sprintf("orders-%s-%d", t.Name(), time.Now().UnixNano())
}

func must[T any](result T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func data(history gocent.HistoryResult) []string {
	all := []string{}
	for _, publication := range history.Publications {
		all = append(all, string(publication.Data))
	}
	return all
}

func TestPublish(t *testing.T) {
	ctx, c, channel := setUp(t)
	first := must(c.Publish(ctx, channel, []byte(`{"n":1}`)))(t)
	second := must(c.Publish(ctx, channel, []byte(`"two"`)))(t)
	passing := must(c.Publish(ctx, channel, []byte(`"passing"`), gocent.WithSkipHistory(true)))(t)
	equal(t, "offsets", []uint64{first.Offset, second.Offset, passing.Offset}, []uint64{1, 2, 0})
	history := must(c.History(ctx, channel, gocent.WithLimit(gocent.NoLimit)))(t)
	equal(t, "data", data(history), []string{`{"n":1}`, `"two"`})
	equal(t, "position", []any{history.Offset, history.Epoch}, []any{uint64(2), first.Epoch})
}

func TestBroadcast(t *testing.T) {
	ctx, c, channel := setUp(t)
	other := channel + "-2"
	result := must(c.Broadcast(ctx, []string{channel, "nowhere:a", other, channel}, []byte(`"all"`)))(t)
	answers := []any{}
	for _, response := range result.Responses {
		if response.Error != nil {
			answers = append(answers, response.Error.Code)
		} else {
			answers = append(answers, response.Result.Offset)
		}
	}
	equal(t, "answers", answers, []any{uint64(1), 102, uint64(1), uint64(2)})
}

func TestHistory(t *testing.T) {
	ctx, c, channel := setUp(t)
	empty := must(c.History(ctx, channel))(t)
	equal(t, "a channel never used", []any{empty.Offset, data(empty)}, []any{uint64(0), []string{}})
	for n := 1; n <= 5; n++ {
		must(c.Publish(ctx, channel, []byte(fmt.Sprint(n))))(t)
	}
	since := gocent.WithSince(&gocent.StreamPosition{Offset: 2, Epoch: empty.Epoch})
	equal(t, "a page", data(must(c.History(ctx, channel, gocent.WithLimit(2), since))(t)), []string{"3", "4"})
	reverse := must(c.History(ctx, channel, gocent.WithLimit(2), gocent.WithReverse(true)))(t)
	equal(t, "the newest", data(reverse), []string{"5", "4"})
}

func TestInfo(t *testing.T) {
	ctx, c, _ := setUp(t)
	nodes := must(c.Info(ctx))(t).Nodes
	if len(nodes) != 1 || nodes[0].UID == "" || nodes[0].Name == "" || nodes[0].Version == "" {
		t.Errorf("nodes: %+v", nodes)
	}
}

func TestPipeKeepsOrder(t *testing.T) {
	ctx, c, channel := setUp(t)
	pipe := c.Pipe()
	for n := 1; n <= 50; n++ {
		must(0, pipe.AddPublish(channel, []byte(fmt.Sprint(n))))(t)
	}
	must(0, pipe.AddPublish("nowhere:a", []byte("0")))(t)
	must(0, pipe.AddPresence(channel))(t)
	must(0, pipe.AddBroadcast([]string{channel, channel + "-2"}, []byte("51")))(t)
	must(0, pipe.AddHistory(channel, gocent.WithLimit(gocent.NoLimit)))(t)
	must(0, pipe.AddInfo())(t)
	replies := must(c.SendPipe(ctx, pipe))(t)

	for n := 1; n <= 50; n++ {
		equal(t, "offset", decoded[gocent.PublishResult](t, replies[n-1]).Offset, uint64(n))
	}
	equal(t, "errors", []int{replies[50].Error.Code, replies[51].Error.Code}, []int{102, 104})
	equal(t, "broadcast", decoded[gocent.BroadcastResult](t, replies[52]).Responses[0].Result.Offset, uint64(51))
	history := decoded[gocent.HistoryResult](t, replies[53])
	for n, text := range data(history) {
		equal(t, "history", text, fmt.Sprint(n+1))
	}
	equal(t, "length of the history", len(history.Publications), 51)
	equal(t, "nodes", len(decoded[gocent.InfoResult](t, replies[54]).Nodes), 1)
}

func decoded[T any](t *testing.T, reply gocent.Reply) (result T) {
	t.Helper()
	if reply.Error != nil {
		t.Fatal(reply.Error)
	}
	must(0, json.Unmarshal(reply.Result, &result))(t)
	return result
}

func TestErrors(t *testing.T) {
	ctx, c, channel := setUp(t)
	publish := func(channel string) error {
		_, err := c.Publish(ctx, channel, []byte("1"))
		return err
	}
	history := func() error {
		_, err := c.History(ctx, channel, gocent.WithSince(&gocent.StreamPosition{Offset: 1, Epoch: "nonsense"}))
		return err
	}
	presence := func() error {
		_, err := c.Presence(ctx, channel)
		return err
	}
	for _, refused := range []struct {
		err  error
		code int
	}{{publish("nowhere:a"), 102}, {publish("with space"), 107}, {history(), 112}, {presence(), 104}} {
		var known *gocent.Error
		if !errors.As(refused.err, &known) || known.Code != refused.code || known.Message == "" {
			t.Errorf("%v, want code %d and a message", refused.err, refused.code)
		}
	}
}

func TestAnotherKey(t *testing.T) {
	ctx, _, _ := setUp(t)
	_, err := client("another-key").Info(ctx)
	var status gocent.ErrStatusCode
	if !errors.As(err, &status) || status.Code != 401 {
		t.Errorf("%v, want status 401", err)
	}
}
