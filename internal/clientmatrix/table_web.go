package clientmatrix

// webClients get a page.
var webClients = []*Client{
	{
		Name: "curl", Short: true, Needs: []string{"curl"}, Source: "Debian",
		Version:  "curl --version",
		Trust:    `printf 'cacert = "%s"\nproxy-cacert = "%s"\n' "$CA" "$CA" >"$HOME/.curlrc"`,
		Transfer: `curl -sS --max-time 60 "$URL/page"`,
		How:      map[Way]string{TLS: "authority of the proxy: `--proxy-cacert FILE` (`CURL_CA_BUNDLE` is for targets only)"},
	},
	{
		Name: "curl, `http://` target", Needs: []string{"curl"}, Source: "Debian", Scheme: "http",
		Version:  "curl --version",
		Trust:    `printf 'proxy-cacert = "%s"\n' "$CA" >"$HOME/.curlrc"`,
		Transfer: `curl -sSf --max-time 60 "$URL/page"`,
	},
	{
		Name: "curl over SOCKS5", Needs: []string{"curl"}, Source: "Debian", Ways: []Way{Step},
		Version:  "curl --version",
		Trust:    `printf 'cacert = "%s"\n' "$CA" >"$HOME/.curlrc"`,
		Transfer: `curl -sS --max-time 60 --socks5-hostname "$PROXY_HOST:$PROXY_PORT" "$URL/page"`,
	},
	{
		Name: "wget", Short: true, Needs: []string{"wget"}, Source: "Debian",
		Version:  "wget --version",
		Trust:    `echo "ca_certificate = $CA" >"$HOME/.wgetrc"`,
		Transfer: `wget -nv --tries=2 --timeout=20 -O - "$URL/page"`,
		Except:   map[Way]string{TLS: "wget sends plain HTTP to the proxy, and repeats it 20 times by default"},
	},
	{
		Name: "aria2", Needs: []string{"aria2c"}, Source: "Debian",
		Version:  "aria2c --version",
		Transfer: `aria2c -q --ca-certificate="$CA" --allow-overwrite=true --timeout=20 --max-tries=5 -d "$WORK" -o page "$URL/page"; cat "$WORK/page"; rm "$WORK/page"`,
	},
	{
		Name: "PHP curl", Needs: []string{"php"}, Source: "Debian",
		Version: "php --version",
		Files: map[string]string{"get.php": `<?php
$c = curl_init(getenv("URL") . "/page");
curl_setopt_array($c, [CURLOPT_RETURNTRANSFER => true, CURLOPT_TIMEOUT => 60, CURLOPT_CAINFO => getenv("CA"), CURLOPT_PROXY_CAINFO => getenv("CA")]);
$body = curl_exec($c);
if ($body === false) { fwrite(STDERR, curl_error($c) . "\n"); exit(1); }
echo $body;
`},
		Transfer: `php "$WORK/get.php"`,
		How:      map[Way]string{TLS: "authority of the proxy: `CURLOPT_PROXY_CAINFO`"},
	},
	{
		Name: "Ruby Net::HTTP", Needs: []string{"ruby"}, Source: "Debian",
		Version: "ruby --version",
		Trust:   `export SSL_CERT_FILE="$CA"`,
		Files: map[string]string{"get.rb": `require "net/http"
uri = URI(ENV["URL"] + "/page")
begin
  puts Net::HTTP.get(uri)
rescue => e
  abort "#{e.class}: #{e.message}"
end
`},
		Transfer: `ruby "$WORK/get.rb"`,
	},
	{
		Name: "Perl LWP", Needs: []string{"perl"}, Source: "Debian",
		Version: `perl -MLWP -MLWP::Protocol::https -e 'print "LWP $LWP::VERSION\n"'`,
		Trust:   `export PERL_LWP_SSL_CA_FILE="$CA"`,
		Files: map[string]string{"get.pl": `use LWP::UserAgent;
my $r = LWP::UserAgent->new(env_proxy => 1, timeout => 30)->get("$ENV{URL}/page");
die $r->status_line . "\n" unless $r->is_success;
print $r->content;
`},
		Transfer: `perl "$WORK/get.pl"`,
	},
	{
		Name: "Perl HTTP::Tiny", Needs: []string{"perl"}, Source: "Debian",
		Version: `perl -MHTTP::Tiny -MIO::Socket::SSL -e 'print "HTTP::Tiny $HTTP::Tiny::VERSION\n"'`,
		Files: map[string]string{"get.pl": `use HTTP::Tiny;
my $r = HTTP::Tiny->new(verify_SSL => 1, timeout => 30, SSL_options => {SSL_ca_file => $ENV{CA}})->get("$ENV{URL}/page");
die "$r->{status} $r->{reason} $r->{content}\n" unless $r->{success};
print $r->{content};
`},
		Transfer: `perl "$WORK/get.pl"`,
	},
	{
		Name: "Go net/http", Short: true, Needs: []string{"go"}, Source: "Go",
		Version:  "go version",
		Trust:    `export SSL_CERT_FILE="$CA"`,
		Transfer: `httpget "$URL/page"`,
		Session:  `httpget -session "$URL/page"`,
		How:      map[Way]string{TLS: "authority of the proxy: `SSL_CERT_FILE=FILE`"},
	},
	{
		Name: "grpc-go", Needs: []string{"grpchealth"}, Source: "the Go module proxy",
		Version:  "grpchealth -version",
		Trust:    `export SSL_CERT_FILE="$CA"`,
		Transfer: `grpchealth "$HOST:$PORT"`,
		Session:  `grpchealth -session "$HOST:$PORT"`,
		Want:     "SERVING",
	},
}

// gitClients clone a repository.
var gitClients = []*Client{
	{
		Name: "git over https", Short: true, Needs: []string{"git"}, Source: "Debian",
		Version:  "git --version",
		Trust:    `export GIT_SSL_CAINFO="$CA" GIT_PROXY_SSL_CAINFO="$CA" GIT_TERMINAL_PROMPT=0 GIT_CONFIG_NOSYSTEM=1`,
		Transfer: `rm -rf clone; git clone --quiet "$URL/git/library.git" clone; git -C clone log --format=%s`,
		Want:     "the first one",
		How:      map[Way]string{TLS: "`GIT_HTTP_PROXY_AUTHMETHOD=basic`; authority of the proxy: `GIT_PROXY_SSL_CAINFO=FILE`", Plain: "`GIT_HTTP_PROXY_AUTHMETHOD=basic`"},
	},
	{
		Name: "git over ssh", Needs: []string{"git", "ssh", "sshd", "ncat"}, Source: "Debian", Zone: Raw, Port: SSH, Ways: []Way{Step, Plain},
		Version: "ssh -V 2>&1",
		Settings: map[Way]string{
			Step:  `export PROXY_COMMAND="sallyport-step connect %h:%p"`,
			Plain: `export PROXY_COMMAND="ncat --proxy-type http --proxy $PROXY_HOST:$PROXY_PORT --proxy-auth step:$BITBUCKET_STEP_OIDC_TOKEN %h %p"`,
		},
		Transfer: `rm -rf clone; install -m 600 "$SSH_KEY" "$HOME/key"
export GIT_SSH_COMMAND="ssh -F none -i $HOME/key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ProxyCommand='$PROXY_COMMAND'"
git clone --quiet "ssh://$SSH_USER@$HOST:$PORT$SSH_REPOSITORY" clone; git -C clone log --format=%s`,
		Want:  "the first one",
		Given: map[Way][]string{Plain: {"GIT_SSH_COMMAND", "PROXY_COMMAND"}},
		How: map[Way]string{
			Step:  "`ProxyCommand sallyport-step connect %h:%p`; rule with `protocol: \"any\"`",
			Plain: "`ncat --proxy-type http --proxy-auth` as `ProxyCommand`; rule with `protocol: \"any\"`",
		},
	},
}
