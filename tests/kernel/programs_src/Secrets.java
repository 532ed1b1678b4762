import java.io.*;
import java.nio.charset.StandardCharsets;
import java.security.*;
import java.security.spec.*;
import java.util.*;

/** Holds texts in the forms that programs have, and an RSA key; the first line is its PKCS#8 in base64. */
public class Secrets {
    static List<Object> held = new ArrayList<>();

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        byte[] raw = Base64.getDecoder().decode(lines.readLine());
        KeyFactory rsa = KeyFactory.getInstance("RSA");
        java.security.interfaces.RSAPrivateCrtKey key =
            (java.security.interfaces.RSAPrivateCrtKey) rsa.generatePrivate(new PKCS8EncodedKeySpec(raw));
        held.add(key);
        held.add(rsa.generatePublic(new RSAPublicKeySpec(key.getModulus(), key.getPublicExponent())).getEncoded());
        Signature signature = Signature.getInstance("SHA256withRSA");
        signature.initSign(key);
        signature.update(new byte[32]);
        held.add(signature.sign());
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            held.add(line);
            held.add(line.toCharArray());
            held.add(line.getBytes(StandardCharsets.UTF_8));
            held.add(Map.of("password", line));
            held.add(new StringBuilder("seen: ").append(line).toString());
        }
        System.out.println("ready");
        Thread.sleep(3600000);
    }
}
