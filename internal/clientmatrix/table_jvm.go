package clientmatrix

// javaPause is the pause of a session, and the user's answer to a proxy that asks for
// a credential: Java takes none from a URL.
const javaPause = `
  static void pause() throws Exception {
    try (var out = new java.io.FileWriter(System.getenv("EVENTS"))) { out.write("first\n"); }
    try (var in = new java.io.BufferedReader(new java.io.FileReader(System.getenv("CONTINUE")))) { in.readLine(); }
  }
  static java.net.Authenticator authenticator() {
    return new java.net.Authenticator() {
      protected java.net.PasswordAuthentication getPasswordAuthentication() {
        return new java.net.PasswordAuthentication("step", System.getenv("BITBUCKET_STEP_OIDC_TOKEN").toCharArray());
      }
    };
  }
  interface Transfer { String get() throws Exception; }
  static void run(String[] a, Transfer t) throws Exception {
    try {
      if (a.length > 0) { System.out.println(t.get()); pause(); }
      System.out.println(t.get());
    } catch (java.io.IOException e) { System.err.println(e); System.exit(1); }
  }
}
`

const urlConnectionProgram = `public class Get {
  public static void main(String[] a) throws Exception {
    if (System.getenv("WITH_AUTHENTICATOR") != null) java.net.Authenticator.setDefault(authenticator());
    run(a, () -> new String(new java.net.URL(System.getenv("URL") + "/page").openStream().readAllBytes()));
  }
` + javaPause

const httpClientProgram = `import java.net.URI;
import java.net.http.*;
public class Get {
  public static void main(String[] a) throws Exception {
    var b = HttpClient.newBuilder();
    if (System.getenv("WITH_AUTHENTICATOR") != null) b.authenticator(authenticator());
    HttpClient c = b.build();
    run(a, () -> {
      var r = c.send(HttpRequest.newBuilder(URI.create(System.getenv("URL") + "/page")).build(), HttpResponse.BodyHandlers.ofString());
      if (r.statusCode() != 200) throw new java.io.IOException("status " + r.statusCode() + ": " + r.body());
      return r.body();
    });
  }
` + javaPause

const (
	javaTrust = `keytool -importcert -noprompt -alias ca -file "$CA" -keystore "$WORK/trust.p12" -storetype PKCS12 -storepass changeit >/dev/null 2>&1
export TRUST="-Djavax.net.ssl.trustStore=$WORK/trust.p12 -Djavax.net.ssl.trustStorePassword=changeit -XX:TieredStopAtLevel=1"`
	javaProxy = `export WITH_AUTHENTICATOR=1 JAVA_TOOL_OPTIONS="-Dhttps.proxyHost=$PROXY_HOST -Dhttps.proxyPort=$PROXY_PORT -Djdk.http.auth.tunneling.disabledSchemes="`
	javaHow   = "`-Dhttps.proxyHost`, `-Dhttps.proxyPort`, `-Djdk.http.auth.tunneling.disabledSchemes=`, an `Authenticator`"

	mavenProject = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <parent><groupId>example.left</groupId><artifactId>wall</artifactId><version>1.0.0</version><relativePath/></parent>
  <artifactId>app</artifactId>
  <packaging>pom</packaging>
  <repositories><repository><id>central</id><url>URL/maven</url></repository></repositories>
</project>
`
	mavenProxy = `mkdir -p "$HOME/.m2"; cat >"$HOME/.m2/settings.xml" <<END
<settings><proxies><proxy><id>sallyport</id><active>true</active><protocol>http</protocol><host>$PROXY_HOST</host><port>$PROXY_PORT</port>
<username>step</username><password>\${env.BITBUCKET_STEP_OIDC_TOKEN}</password></proxy></proxies></settings>
END`
	gradleBuild = `repositories { maven { url System.getenv("URL") + "/maven" } }
configurations { wall }
dependencies { wall "example.left:wall:1.0.0@pom" }
task fetch { doLast { println configurations.wall.files*.name } }
`
	gradleProxy = `mkdir -p "$HOME/.gradle"; cat >"$HOME/.gradle/gradle.properties" <<END
systemProp.https.proxyHost=$PROXY_HOST
systemProp.https.proxyPort=$PROXY_PORT
systemProp.https.proxyUser=step
systemProp.https.proxyPassword=$BITBUCKET_STEP_OIDC_TOKEN
systemProp.jdk.http.auth.tunneling.disabledSchemes=
END`
)

// jvmClients are Java's two clients, Maven and Gradle.
var jvmClients = []*Client{
	{
		Name: "Java URLConnection", Slow: true, Needs: []string{"java", "keytool"}, Source: "Debian",
		Version: "java -version 2>&1", Trust: javaTrust,
		Files:    map[string]string{"Get.java": urlConnectionProgram},
		Settings: map[Way]string{TLS: javaProxy, Plain: javaProxy},
		Transfer: `java $TRUST "$WORK/Get.java"`,
		Session:  `java $TRUST "$WORK/Get.java" session`,
		How:      map[Way]string{Plain: javaHow},
	},
	{
		Name: "Java HttpClient", Slow: true, Needs: []string{"java", "keytool"}, Source: "Debian",
		Version: "java -version 2>&1", Trust: javaTrust,
		Files:    map[string]string{"Get.java": httpClientProgram},
		Settings: map[Way]string{TLS: javaProxy, Plain: javaProxy},
		Transfer: `java $TRUST "$WORK/Get.java"`,
		Session:  `java $TRUST "$WORK/Get.java" session`,
		How:      map[Way]string{Plain: javaHow},
	},
	{
		Name: "Maven", Slow: true, Needs: []string{"mvn", "keytool"}, Source: "Debian",
		Version: "mvn --version", Trust: javaTrust + `
export MAVEN_OPTS="$TRUST -Duser.home=$HOME"`,
		Files:    map[string]string{"project.xml": mavenProject},
		Settings: map[Way]string{TLS: mavenProxy, Plain: mavenProxy},
		Transfer: `rm -rf "$HOME/.m2/repository"; sed "s|URL|$URL|" project.xml >pom.xml; mvn --batch-mode validate; cat "$HOME/.m2/repository/example/left/wall/1.0.0/wall-1.0.0.pom"`,
		Want:     "<artifactId>wall</artifactId>",
		How:      map[Way]string{Plain: "`proxies` in `settings.xml`"},
	},
	{
		Name: "Gradle", Slow: true, Needs: []string{"gradle", "keytool"}, Source: "Debian",
		Version: "gradle --version | grep Gradle", Trust: javaTrust + `
export GRADLE_OPTS="$TRUST -Duser.home=$HOME -Dorg.gradle.daemon=false"`,
		Files:    map[string]string{"build.gradle": gradleBuild, "settings.gradle": "rootProject.name = 'app'\n"},
		Settings: map[Way]string{TLS: gradleProxy, Plain: gradleProxy},
		Transfer: `rm -rf "$HOME/.gradle/caches" .gradle; gradle --no-daemon --console=plain -q fetch`,
		Want:     "wall-1.0.0.pom",
		Given:    map[Way][]string{TLS: {".gradle/gradle.properties"}, Plain: {".gradle/gradle.properties"}},
		How:      map[Way]string{Plain: "`systemProp.https.proxy…` in `gradle.properties`, with the token in the file"},
	},
}
