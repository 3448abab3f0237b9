//! Frames: their headers, control frames, and what is no frame or no command.

use super::connected;
use crate::node;
use crate::scene::Scene;

/// Publications whose frames have the longest and shortest payload of each form of the length: 7, 16 and 64 bits.
#[tokio::test(flavor = "multi_thread")]
async fn lengths() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(&connected(
            r#"
            > {"id":2,"subscribe":{"channel":"plain:a"}}
            <
            publish plain:a ""
            <
            publish plain:a "<x*56>"
            <
            publish plain:a "<x*57>"
            <
            publish plain:a "<x*65466>"
            <
            publish plain:a "<x*65467>"
            <
            "#,
        ))
        .await;
    scene.compare("client_frame_lengths");
}

#[tokio::test(flavor = "multi_thread")]
async fn control_frames() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(&connected(
            r#"
            # ping with a payload
            >hex 89 83 01 02 03 04 60 60 60
            <
            # pong unasked for
            >hex 8a 80 01 02 03 04
            # a command in two fragments with a ping between: {"id":2, and "ping":{}}
            >hex 01 88 00 00 00 00 7b 22 69 64 22 3a 32 2c
            >hex 89 80 00 00 00 00
            >hex 80 8a 00 00 00 00 22 70 69 6e 67 22 3a 7b 7d 7d
            <
            <
            # close 1000
            >hex 88 82 00 00 00 00 03 e8
            <
            end
            socket b
            # close without a code
            >hex 88 80 00 00 00 00
            <
            end
            "#,
        ))
        .await;
    scene.compare("client_control_frames");
}

/// Frames that a client must not send end the connection with a code of RFC 6455, section 7.4.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_frames() {
    let node = node().set("client.message_size", "1 KiB").set("client.channel_limit", 4).start().await;
    let mut scene = Scene::new(&node);
    for (what, bytes) in [
        ("not masked", "81 02 7b 7d"),
        ("a reserved bit", "c1 82 00 00 00 00 7b 7d"),
        ("a reserved opcode", "83 80 00 00 00 00"),
        ("a control frame in fragments", "09 80 00 00 00 00"),
        ("a control frame of 126 bytes", "89 fe 00 7e 00 00 00 00"),
        ("a continuation of nothing", "80 80 00 00 00 00"),
        ("binary", "82 82 00 00 00 00 7b 7d"),
        ("not UTF-8", "81 81 00 00 00 00 ff"),
        ("too large", "81 fe 04 01 00 00 00 00"),
        ("too large, 64 bits", "81 ff 00 00 00 00 00 01 00 00 00 00 00 00"),
        ("a length in too many bytes", "81 fe 00 02 00 00 00 00 7b 7d"),
        ("a close of one byte", "88 81 00 00 00 00 03"),
        ("a close with a code that does not exist", "88 82 00 00 00 00 03 ed"),
    ] {
        let script = connected(&format!("# {what}\n>hex {bytes}\n<\nend"));
        scene.play(&script.replace("socket a", &format!("socket {what}"))).await;
    }
    scene.compare("client_malformed_frames");
}

/// Text that is no command ends the connection.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_commands() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    for command in [
        "",
        "x",
        "{",
        "[]",
        r#"{"id":2,"ping":{}}{"id":3,"ping":{}}"#,
        r#"{"id":2,"ping":{}}⏎⏎{"id":3,"ping":{}}"#,
        r#"{"id":2,"ping":{},"rpc":{}}"#,
        r#"{"id":2,"id":2,"ping":{}}"#,
        r#"{"id":-1,"ping":{}}"#,
        r#"{"ping":{}}"#,
        r#"{"id":2,"connect":{}}"#,
        // A pong without a ping.
        "{}",
    ] {
        scene.play(&connected(&format!("> {command}\n<\nend"))).await;
    }
    scene
        .play(
            r#"
            # before connect
            socket b
            > {"id":1,"subscribe":{"channel":"news"}}
            <
            end
            "#,
        )
        .await;
    scene.compare("client_malformed_commands");
}
