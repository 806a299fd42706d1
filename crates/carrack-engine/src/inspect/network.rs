//! `NetworkSettings` of `docker container inspect`.

use carrack_container::{NetworkMode, PortBinding};
use carrack_network::Attachment;
use serde_json::{Map, Value, json};

/// The network in Docker's words.
pub fn network_text(network: &NetworkMode) -> String {
    match network {
        NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container(id) => format!("container:{id}"),
        NetworkMode::Path(path) => format!("ns:{}", path.display()),
    }
}

/// Where the container is in its network, while it runs.
pub fn network_json(mode: &NetworkMode, attachment: Option<&Attachment>) -> Value {
    let address = |text: Option<String>| text.unwrap_or_default();
    let endpoint = json!({
        "IPAddress": address(attachment.map(|attachment| attachment.address.to_string())),
        "IPPrefixLen": attachment.map_or(0, |attachment| attachment.prefix),
        "Gateway": address(attachment.map(|attachment| attachment.gateway.to_string())),
        "MacAddress": address(attachment.map(|attachment| attachment.mac.to_string())),
    });
    let ports: Vec<PortBinding> = attachment.map_or_else(Vec::new, crate::ports::published);
    let mut settings = json!({"Ports": bindings_json(&ports), "Networks": {network_text(mode): endpoint}});
    // Docker repeats the default bridge's endpoint at the top.
    if let (Value::Object(settings), Value::Object(endpoint)) = (&mut settings, endpoint) {
        settings.extend(endpoint);
    }
    settings
}

/// `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`
pub fn bindings_json(ports: &[PortBinding]) -> Value {
    let mut bindings = Map::new();
    for port in ports {
        let key = crate::ports::container_side(port);
        let host_address =
            port.host_address.map_or_else(|| "0.0.0.0".to_owned(), |address| address.to_string());
        let last = port.last_host_port.map_or_else(String::new, |last| format!("-{last}"));
        let entry = json!({"HostIp": host_address, "HostPort": format!("{}{last}", port.host_port)});
        let list = bindings.entry(key).or_insert_with(|| json!([]));
        list.as_array_mut().expect("it was made as a list").push(entry);
    }
    Value::Object(bindings)
}
