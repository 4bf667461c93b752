// A thread a connection on plain sockets: files from the working folder, and what is posted.
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

public class JavaSockets {
    public static void main(String[] arguments) throws IOException {
        var port = Integer.parseInt(arguments[0]);
        var listener = new ServerSocket(port, 128, InetAddress.getByName("127.0.0.1"));
        ExecutorService threads = Executors.newCachedThreadPool();
        while (true) {
            Socket connection = listener.accept();
            threads.execute(() -> serve(connection));
        }
    }

    private static void serve(Socket connection) {
        try (connection) {
            connection.setTcpNoDelay(true);
            var input = new DataInputStream(new java.io.BufferedInputStream(connection.getInputStream()));
            var output = new BufferedOutputStream(connection.getOutputStream());
            for (String line = line(input); line != null; line = line(input)) {
                String[] words = line.split(" ");
                int length = 0;
                boolean closing = false;
                for (String field = line(input); field != null && !field.isEmpty(); field = line(input)) {
                    var lower = field.toLowerCase();
                    if (lower.startsWith("content-length: ")) {
                        length = Integer.parseInt(lower.substring(16));
                    }
                    closing |= lower.equals("connection: close");
                }
                byte[] body = input.readNBytes(length);
                String status = "200 OK";
                if (!words[0].equals("POST")) {
                    try {
                        body = Files.readAllBytes(Path.of("." + words[1]));
                    } catch (IOException missing) {
                        status = "404 Not Found";
                        body = "not found".getBytes();
                    }
                }
                var head = "HTTP/1.1 " + status + "\r\nContent-Length: " + body.length + "\r\n\r\n";
                output.write(head.getBytes());
                if (!words[0].equals("HEAD")) {
                    output.write(body);
                }
                output.flush();
                if (closing) {
                    return;
                }
            }
        } catch (IOException gone) {
            // A client may leave whenever it likes.
        }
    }

    private static String line(DataInputStream input) throws IOException {
        var line = new StringBuilder();
        for (int next = input.read(); next >= 0; next = input.read()) {
            if (next == '\n') {
                return line.toString().trim();
            }
            line.append((char) next);
        }
        return null;
    }
}
