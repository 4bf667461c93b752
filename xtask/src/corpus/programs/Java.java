// The JDK's own HTTP server on a pool of threads: files from the working folder, and what is posted.
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Executors;

public class Java {
    public static void main(String[] arguments) throws Exception {
        var address = new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0]));
        var server = HttpServer.create(address, 128);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", exchange -> {
            byte[] posted = exchange.getRequestBody().readAllBytes();
            var method = exchange.getRequestMethod();
            var name = Path.of(exchange.getRequestURI().getPath()).getFileName();
            int status = 200;
            byte[] body = posted;
            if (!method.equals("POST")) {
                try {
                    body = Files.readAllBytes(Path.of(".").resolve(name));
                } catch (java.io.IOException missing) {
                    status = 404;
                    body = "not found".getBytes();
                }
            }
            if (method.equals("HEAD")) {
                exchange.getResponseHeaders().set("Content-Length", "" + body.length);
                exchange.sendResponseHeaders(status, -1);
            } else {
                exchange.sendResponseHeaders(status, body.length == 0 ? -1 : body.length);
                exchange.getResponseBody().write(body);
            }
            exchange.close();
        });
        server.start();
    }
}
