package clientmatrix

// pause is the pause of a session in Python.
const pause = `
def session(transfer):
    import os, sys
    try:
        if sys.argv[1:] == ["session"]:
            print(transfer())
            sys.stdout.flush()
            with open(os.environ["EVENTS"], "w") as f:
                f.write("first\n")
            with open(os.environ["CONTINUE"]) as f:
                f.readline()
        print(transfer())
    except Exception as e:
        sys.exit("%s: %s" % (type(e).__name__, e))
`

const urllibProgram = `import os, ssl, urllib.request` + pause + `
context = ssl.create_default_context(cafile=os.environ["CA"])
opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
session(lambda: opener.open(os.environ["URL"] + "/page", timeout=40).read().decode())
`

const requestsProgram = `import os, requests` + pause + `
s = requests.Session()
def transfer():
    r = s.get(os.environ["URL"] + "/page", timeout=40)
    r.raise_for_status()
    return r.text
session(transfer)
`

const aiohttpProgram = `import aiohttp, asyncio, os, ssl, sys
async def main():
    context = ssl.create_default_context(cafile=os.environ["CA"])
    async with aiohttp.ClientSession(trust_env=True, timeout=aiohttp.ClientTimeout(total=40)) as s:
        async with s.get(os.environ["URL"] + "/page", ssl=context) as r:
            r.raise_for_status()
            print(await r.text())
try:
    asyncio.run(main())
except Exception as e:
    sys.exit("%s: %s" % (type(e).__name__, e))
`

const httpxProgram = `import httpx, os, ssl` + pause + `
c = httpx.Client(verify=ssl.create_default_context(cafile=os.environ["CA"]), timeout=40)
def transfer():
    r = c.get(os.environ["URL"] + "/page")
    r.raise_for_status()
    return r.text
session(transfer)
`

// pythonClients are Python's own client, three libraries, and pip.
var pythonClients = []*Client{
	{
		Name: "Python urllib", Short: true, Needs: []string{"python3"}, Source: "Debian",
		Version:  "python3 --version",
		Files:    map[string]string{"get.py": urllibProgram},
		Transfer: `python3 "$WORK/get.py"`,
		Session:  `python3 "$WORK/get.py" session`,
	},
	{
		Name: "Python requests", Needs: []string{"python3", "python3:requests"}, Source: "Debian",
		Version:  `python3 -c 'import requests; print("requests", requests.__version__)'`,
		Trust:    `export REQUESTS_CA_BUNDLE="$CA"`,
		Files:    map[string]string{"get.py": requestsProgram},
		Transfer: `python3 "$WORK/get.py"`,
		Session:  `python3 "$WORK/get.py" session`,
		How:      map[Way]string{TLS: "authority of the proxy: `REQUESTS_CA_BUNDLE=FILE`"},
	},
	{
		Name: "Python httpx", Needs: []string{"python3", "python3:httpx"}, Source: "Debian",
		Version:  `python3 -c 'import httpx; print("httpx", httpx.__version__)'`,
		Files:    map[string]string{"get.py": httpxProgram},
		Transfer: `python3 "$WORK/get.py"`,
		Session:  `python3 "$WORK/get.py" session`,
	},
	{
		Name: "Python aiohttp", Needs: []string{"python3", "python3:aiohttp"}, Source: "Debian",
		Version:  `python3 -c 'import aiohttp; print("aiohttp", aiohttp.__version__)'`,
		Files:    map[string]string{"get.py": aiohttpProgram},
		Transfer: `python3 "$WORK/get.py"`,
		How:      map[Way]string{Plain: "`trust_env=True`", Step: "`trust_env=True`"},
	},
	{
		Name: "pip", Needs: []string{"python3", "python3:pip"}, Source: "Debian",
		Version: "python3 -m pip --version",
		Trust:   `export PIP_CERT="$CA" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore`,
		Transfer: `rm -rf wheels
python3 -m pip download --no-cache-dir --no-deps -d wheels --index-url "$URL/pypi/simple/" leftwall; ls wheels`,
		Want: "leftwall-1.0-py3-none-any.whl",
		How:  map[Way]string{TLS: "authority of the proxy: `PIP_CERT=FILE`"},
	},
}
