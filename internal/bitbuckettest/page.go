package bitbuckettest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Page lengths of REST 2.0 (Pagination): the least is also the default.
const (
	pageLeast = 10
	pageMost  = 100
)

// list answers with one page of items. The address of the next page is
// absolute and opaque; that of the first may be counted (?page=2). q and sort
// are not emulated, but for the sort of deployments: they are refused and not ignored.
// The caller holds mu.
func list[T any](s *Server, c *call, items []T, view func(T) map[string]any) answer {
	for _, name := range []string{"q", "sort"} {
		if c.query.Has(name) {
			return failure(http.StatusBadRequest, "bitbuckettest does not emulate the parameter %s", name)
		}
	}
	return onePage(s, c, items, view)
}

// onePage is list for items that are in the order that was asked for.
func onePage[T any](s *Server, c *call, items []T, view func(T) map[string]any) answer {
	length, err := pageLength(c.query.Get("pagelen"))
	if err != nil {
		return failure(http.StatusBadRequest, "Invalid pagelen")
	}
	start, err := pageStart(c.query.Get("page"), length)
	if err != nil {
		return failure(http.StatusBadRequest, "Invalid page")
	}
	start = min(start, len(items))
	stop := min(start+length, len(items))
	values := make([]map[string]any, 0, stop-start)
	for _, item := range items[start:stop] {
		values = append(values, view(item))
	}
	body := map[string]any{"values": values}
	if stop < len(items) {
		body["next"] = s.pageURL(c, stop, length)
	}
	if !s.barePages {
		body["size"], body["pagelen"], body["page"] = len(items), length, start/length+1
		if start > 0 {
			body["previous"] = s.pageURL(c, max(0, start-length), length)
		}
	}
	return answer{status: http.StatusOK, body: body}
}

func pageLength(text string) (int, error) {
	if text == "" {
		return pageLeast, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > pageMost {
		return 0, fmt.Errorf("page length %q is not between 1 and %d", text, pageMost)
	}
	return max(n, pageLeast), nil
}

// pageStart returns the index of the first item of a page: of a number, or of
// what pageURL made.
func pageStart(text string, length int) (int, error) {
	if text == "" {
		return 0, nil
	}
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 1_000_000 {
		return (n - 1) * length, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return 0, err
	}
	from, ok := strings.CutPrefix(string(b), "from:")
	if !ok {
		return 0, fmt.Errorf("page %q was not made here", text)
	}
	n, err := strconv.Atoi(from)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("page %q was not made here", text)
	}
	return n, nil
}

// pageURL returns the address of the page that begins with this item; the other
// parameters of the request stay.
func (s *Server) pageURL(c *call, start, length int) string {
	q := url.Values{}
	for name, values := range c.query {
		q[name] = values
	}
	q.Set("pagelen", strconv.Itoa(length))
	q.Set("page", base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "from:%d", start)))
	return s.BaseURL() + c.path + "?" + q.Encode()
}
