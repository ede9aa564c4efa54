//! What is written down for operators: the page on discovery, and the manifest.

use std::path::Path;

use k8s_openapi::api::core::v1::{PodSpec, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use plimsoll::config::Config;
use serde::de::DeserializeOwned;

const PAGE: &str = include_str!("../../docs/discovery.md");
const MANIFEST: &str = include_str!("../../deploy/kubernetes/rbac.yaml");

/// The page's blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let parts = PAGE.split("```").skip(1).step_by(2);
    parts.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

fn yaml<T: DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// People copy what the page shows, and it must be what a node reads.
#[test]
fn the_configurations_of_the_page_are_read() {
    let configs: Vec<Config> =
        blocks("toml").into_iter().map(|text| Config::from_toml_str(text).expect(text)).collect();
    let [listed, dns, kubernetes, zones] = &configs[..] else { panic!("{}", configs.len()) };
    assert_eq!((listed.pods[0].zone.as_deref(), listed.discovery.file.is_some()), (Some("eu-1a"), true));
    assert_eq!((dns.discovery.dns.len(), dns.discovery.http_port.number()), (2, Some(8000)));
    assert_eq!(kubernetes.discovery.kubernetes.len(), 4);
    assert_eq!((zones.zone.as_deref(), zones.zone_penalty.as_millis()), (Some("eu-1a"), 2));
    let default = Config::from_toml_str("").unwrap();
    assert_eq!(zones.zone_penalty, default.zone_penalty, "the page says that it shows the default");
    assert_eq!(kubernetes.discovery.http_port, default.discovery.http_port);
}

/// The lines that a program needs are those of the library's own example, which is compiled.
#[test]
fn the_program_of_the_page_is_the_librarys_example() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/driver/discovery/mod.rs");
    let example = std::fs::read_to_string(source).unwrap();
    let program = blocks("rust,ignore").concat();
    let lines: Vec<&str> = program.lines().collect();
    assert!(lines.len() >= 5);
    for line in lines {
        assert!(example.contains(&format!("/// {line}\n")), "{line}");
    }
}

/// What Kubernetes cannot read, or what grants less than a node asks for, would be found out on a cluster.
#[test]
fn the_manifests_say_what_a_node_needs() {
    let documents: Vec<&str> = MANIFEST.split("---\n").skip(1).collect();
    let [account, role, binding] = documents[..] else { panic!("{documents:?}") };
    let (account, role, binding): (ServiceAccount, Role, RoleBinding) = (yaml(account), yaml(role), yaml(binding));
    let rule = &role.rules.as_deref().unwrap()[0];
    assert_eq!(rule.api_groups.as_deref().unwrap(), ["discovery.k8s.io"]);
    assert_eq!(rule.resources.as_deref().unwrap(), ["endpointslices"]);
    assert_eq!(rule.verbs, ["list", "watch"]);
    assert_eq!((binding.role_ref.kind.as_str(), Some(binding.role_ref.name)), ("Role", role.metadata.name.clone()));
    assert_eq!(binding.metadata.namespace, role.metadata.namespace);
    let subject = &binding.subjects.unwrap()[0];
    assert_eq!(
        (Some(&subject.name), &subject.namespace),
        (account.metadata.name.as_ref(), &account.metadata.namespace)
    );

    let blocks = blocks("yaml");
    let [service, shown, env, init] = blocks[..] else { panic!("{blocks:?}") };
    let ports = yaml::<Service>(service).spec.unwrap().ports.unwrap();
    let names: Vec<String> = ports.into_iter().filter_map(|port| port.name).collect();
    assert_eq!(names, ["http", "grpc", "metrics"], "what a node looks for by itself");
    assert_eq!(yaml::<Role>(shown), role, "the page and the manifest");
    let container =
        format!("containers:\n  - name: plimsoll\n{}", env.replace("env:", "    env:").replace("\n  ", "\n      "));
    let env = &yaml::<PodSpec>(&container).containers[0].env.clone().unwrap()[0];
    let field = env.value_from.clone().unwrap().field_ref.unwrap().field_path;
    assert_eq!(
        (env.name.as_str(), field.as_str()),
        ("PLIMSOLL_ZONE", "metadata.labels['topology.kubernetes.io/zone']")
    );
    let init = yaml::<PodSpec>(&format!("containers: []\n{init}")).init_containers.unwrap();
    assert!(init[0].args.as_deref().unwrap()[0].contains("{.metadata.labels.topology\\.kubernetes\\.io/zone}"));
}
