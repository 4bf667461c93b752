//! What the files of a container runtime say of a container: its name and its image.
//!
//! | runtime | file, below the node's root | read of it |
//! | --- | --- | --- |
//! | containerd | `run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json` | annotations |
//! | containerd of k3s | the same below `run/k3s` | annotations |
//! | CRI-O | `{run,var/lib}/containers/storage/overlay-containers/ID/userdata/config.json` | annotations |
//! | Docker | `var/lib/docker/containers/ID/config.v2.json` | `Name`, `Image`, `Config` |

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};

/// A larger file is not read.
const MOST: u64 = 1 << 20;
/// A longer name is none.
const LONGEST: usize = 1024;

/// What is known of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// In its pod, or of its own.
    pub name: Option<String>,
    /// Reference without a digest: `docker.io/library/nginx:1.27`.
    pub image: Option<String>,
    /// `REPOSITORY@sha256:…` where a registry's digest is known, otherwise the runtime's own id of
    /// the image, `sha256:…`.
    pub image_digest: Option<String>,
}

/// The id in a cgroup's path (`…/cri-containerd-ID.scope`): the last 64 hexadecimal digits.
pub fn container_id(path: &str) -> Option<&str> {
    path.rsplit(|c: char| !c.is_ascii_hexdigit())
        .find(|part| part.len() == 64)
}

/// Looks a container up in the files below `root`. `id`: as [`container_id`] gives it.
pub fn describe(root: &Path, id: &str) -> Option<Described> {
    if container_id(id) != Some(id) {
        return None;
    }
    let task = "io.containerd.runtime.v2.task/k8s.io";
    let storage = "containers/storage/overlay-containers";
    let annotated = [
        format!("run/containerd/{task}/{id}/config.json"),
        format!("run/k3s/containerd/{task}/{id}/config.json"),
        format!("run/{storage}/{id}/userdata/config.json"),
        format!("var/lib/{storage}/{id}/userdata/config.json"),
    ];
    let annotated = annotated
        .iter()
        .find_map(|path| read::<Annotated>(&root.join(path)))
        .map(Described::from);
    let docker = || -> Option<Described> {
        let path: PathBuf = format!("var/lib/docker/containers/{id}/config.v2.json").into();
        read::<Docker>(&root.join(path)).map(Described::from)
    };
    annotated.or_else(docker)
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let mut options = OpenOptions::new();
    // What is no file neither blocks nor leads elsewhere.
    options
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
    let file = options.open(path).ok()?;
    let about = file.metadata().ok()?;
    if !about.is_file() || about.len() > MOST {
        return None;
    }
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text)
        .inspect_err(|error| tracing::debug!(path = %path.display(), %error, "not read"))
        .ok()
}

/// An OCI runtime's `config.json`.
#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: HashMap<String, String>,
}

impl From<Annotated> for Described {
    fn from(file: Annotated) -> Self {
        let first = |keys: &[&str]| {
            let mut found = keys.iter().filter_map(|key| file.annotations.get(*key));
            found.find_map(|value| sound(value))
        };
        let name = first(&[
            "io.kubernetes.cri.container-name",
            "io.kubernetes.container.name",
        ]);
        let image = first(&[
            "io.kubernetes.cri.image-name",
            "io.kubernetes.cri-o.ImageName",
            "io.kubernetes.cri-o.Image",
        ]);
        // What the user asked for may have the digest that the name does not.
        let references = [
            "io.kubernetes.cri.image-name",
            "io.kubernetes.cri-o.ImageName",
            "io.kubernetes.cri-o.Image",
            "io.kubernetes.cri-o.ImageRef",
        ];
        let id = first(&["io.kubernetes.cri-o.ImageRef"]);
        let references = references.iter().filter_map(|key| first(&[*key]));
        Self::new(name, image, references, id)
    }
}

/// Docker's `config.v2.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Docker {
    name: Option<String>,
    /// Its id.
    image: Option<String>,
    config: Option<DockerConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerConfig {
    /// The reference that the container was made with.
    image: Option<String>,
    labels: Option<HashMap<String, String>>,
}

impl From<Docker> for Described {
    fn from(file: Docker) -> Self {
        let (image, labels) = file
            .config
            .map(|config| (config.image, config.labels))
            .unwrap_or_default();
        let of_pod = labels.and_then(|mut all| all.remove("io.kubernetes.container.name"));
        let own = file
            .name
            .map(|name| name.trim_start_matches('/').to_owned());
        let name = of_pod.or(own).and_then(|name| sound(&name));
        let image = image.and_then(|image| sound(&image));
        Self::new(
            name,
            image.clone(),
            image.into_iter(),
            file.image.and_then(|id| sound(&id)),
        )
    }
}

impl Described {
    fn new(
        name: Option<String>,
        image: Option<String>,
        mut references: impl Iterator<Item = String>,
        id: Option<String>,
    ) -> Self {
        let is_id = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let id = id.and_then(|id| {
            let digits = id.strip_prefix("sha256:").unwrap_or(&id);
            is_id(digits).then(|| format!("sha256:{digits}"))
        });
        let digest = references.find_map(|reference| {
            let (repository, digest) = reference.split_once('@')?;
            is_id(digest.strip_prefix("sha256:")?)
                .then(|| format!("{}@{digest}", without_tag(repository)))
        });
        // Some containers are made with an image's id alone.
        let image = image
            .map(|image| image.split('@').next().unwrap_or_default().to_owned())
            .filter(|image| !is_id(image) && !image.starts_with("sha256:"));
        Self {
            name,
            image,
            image_digest: digest.or(id),
        }
    }
}

/// A reference's repository: what stands before its tag.
pub fn without_tag(reference: &str) -> &str {
    match reference.rsplit_once(':') {
        // A colon before a slash is a port.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => reference,
    }
}

fn sound(text: &str) -> Option<String> {
    let sound =
        !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|b| b.is_ascii_graphic());
    sound.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTAINERD: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json";
    const CRI_O: &str = "var/lib/containers/storage/overlay-containers/ID/userdata/config.json";
    const DOCKER: &str = "var/lib/docker/containers/ID/config.v2.json";

    /// What is found of a container when `text` stands in `file`.
    fn found(file: &str, text: &[u8]) -> Option<Described> {
        let root = tempfile::tempdir().unwrap();
        let id = "0a".repeat(32);
        let path = root.path().join(file.replace("ID", &id));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        describe(root.path(), &id)
    }

    fn described(name: &str, image: &str, digest: Option<String>) -> Option<Described> {
        Some(Described {
            name: Some(name.to_owned()),
            image: Some(image.to_owned()),
            image_digest: digest,
        })
    }

    fn digest() -> String {
        format!("sha256:{}", "1b".repeat(32))
    }

    #[test]
    fn ids_are_found_in_the_names_that_runtimes_give_cgroups() {
        let (id, other) = ("ab".repeat(32), "cd".repeat(32));
        for path in [
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/kubepods/burstable/pod1/{id}"),
            format!("/docker/{other}/docker/{id}/init.scope"),
            format!("/machine.slice/crio-{id}.scope"),
        ] {
            assert_eq!(container_id(&path), Some(&*id), "{path}");
        }
        assert_eq!(container_id("/shop/api"), None);
        assert_eq!(container_id(&format!("/{id}0")), None);
    }

    #[test]
    fn containerd_tells_name_and_image() {
        let text = |image: &str| {
            format!(
                r#"{{"ociVersion":"1.1.0","process":{{"args":["/bin/serve"]}},"annotations":{{
                "io.kubernetes.cri.container-name":"api",
                "io.kubernetes.cri.container-type":"container",
                "io.kubernetes.cri.image-name":"{image}",
                "io.kubernetes.cri.sandbox-name":"shop-1"}}}}"#
            )
        };
        let tagged = text("localhost:5000/shop/api:1.2");
        let known = described("api", "localhost:5000/shop/api:1.2", None);
        assert_eq!(found(CONTAINERD, tagged.as_bytes()), known);
        let exact = text(&format!("localhost:5000/shop/api:1.2@{}", digest()));
        let digest = format!("localhost:5000/shop/api@{}", digest());
        let known = described("api", "localhost:5000/shop/api:1.2", Some(digest));
        assert_eq!(found(CONTAINERD, exact.as_bytes()), known);
        let sandbox = br#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox"}}"#;
        assert_eq!(found(CONTAINERD, sandbox), Some(Described::default()));
    }

    #[test]
    fn cri_o_tells_name_and_image_and_the_images_id() {
        let text = |asked: &str| {
            format!(
                r#"{{"annotations":{{"io.kubernetes.container.name":"api",
                "io.kubernetes.cri-o.Image":"{asked}",
                "io.kubernetes.cri-o.ImageName":"quay.io/shop/api:2",
                "io.kubernetes.cri-o.ImageRef":"{}"}}}}"#,
                "1b".repeat(32)
            )
        };
        let known = described("api", "quay.io/shop/api:2", Some(digest()));
        assert_eq!(found(CRI_O, text("quay.io/shop/api:2").as_bytes()), known);
        let exact = format!("quay.io/shop/api@{}", digest());
        let known = described("api", "quay.io/shop/api:2", Some(exact.clone()));
        assert_eq!(found(CRI_O, text(&exact).as_bytes()), known);
    }

    #[test]
    fn docker_tells_name_and_image_and_the_images_id() {
        let text = format!(
            r#"{{"State":{{"Pid":7}},"Image":"{}","Name":"/web","Driver":"overlay2",
            "Config":{{"Hostname":"h","Env":["A=b"],"Image":"nginx:1.27","Labels":{{}}}}}}"#,
            digest()
        );
        let known = described("web", "nginx:1.27", Some(digest()));
        assert_eq!(found(DOCKER, text.as_bytes()), known);
        let by_id = format!(r#"{{"Name":"/web","Config":{{"Image":"{}"}}}}"#, digest());
        let known = found(DOCKER, by_id.as_bytes()).unwrap();
        assert_eq!((known.image, known.image_digest), (None, None));
    }

    #[test]
    fn what_does_not_belong_in_such_a_file_says_nothing() {
        let deep = [b"{\"annotations\":".as_slice(), &[b'['; 100_000]].concat();
        let large = [b"{}".as_slice(), &vec![b' '; 1 << 20]].concat();
        for text in [
            b"".as_slice(),
            b"null",
            b"[]",
            b"{\"annotations\":null}",
            b"{\"annotations\":{\"io.kubernetes.cri.container-name\":7}}",
            b"\xff\xfe{",
            &deep,
            &large,
        ] {
            let said = found(CONTAINERD, text).unwrap_or_default();
            assert_eq!(said, Described::default());
        }
        for name in ["", "a\\nb", "\\u0000", "ä", &"x".repeat(LONGEST + 1)] {
            let text = format!(
                r#"{{"annotations":{{"io.kubernetes.cri.container-name":"{name}",
                "io.kubernetes.cri.image-name":"{name}"}}}}"#
            );
            let nothing = Some(Described::default());
            assert_eq!(found(CONTAINERD, text.as_bytes()), nothing, "{name}");
        }
        assert_eq!(describe(Path::new("/"), "../../../etc"), None);
        assert_eq!(describe(Path::new("/nowhere"), &"0a".repeat(32)), None);
    }

    #[test]
    fn a_tag_is_what_stands_after_the_last_colon_behind_the_last_slash() {
        assert_eq!(without_tag("nginx:1.27"), "nginx");
        assert_eq!(without_tag("localhost:5000/nginx"), "localhost:5000/nginx");
        assert_eq!(without_tag("nginx"), "nginx");
    }
}
